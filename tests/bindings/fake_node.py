"""A node of a cluster of one that answers what a test tells it to.

It speaks msgpack-rpc as rukund does, by an independent msgpack library, and knows nothing of
locks or queues: a test gives an answer for each operation and looks at what was asked. Tests
of what the bindings do by themselves need no more; the rest runs against real nodes."""

import itertools
import socket
import threading

import msgpack

#: An answer that never comes.
SILENCE = object()


class Problem(Exception):
    """The answer is a problem document with these members."""

    def __init__(self, code, status=409, **members):
        super().__init__(code)
        self.document = {"type": f"urn:rukun:{code}", "title": code, "status": status,
                         "code": code, "retryable": False, "outcome": "not_done",
                         **members}


class FakeNode:
    """answers: operation -> answer, or function(fields) -> answer."""

    def __init__(self, **answers):
        self.answers = {
            "session.open": {"session": "s1", "ttl_ms": 10000},
            "session.keepalive": {"ok": True, "ttl_ms": 10000},
            "session.close": {"closed": True},
            "lock.cancel": {"cancelled": True},
            "lock.release": {"released": True},
        }
        self.answers |= {name.replace("_", ".", 1): answer
                         for name, answer in answers.items()}
        self.calls = []
        self.changed = threading.Condition()
        self.fences = itertools.count(101)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.streams = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            self.streams.append(stream)
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        try:
            while data := stream.recv(1 << 16):
                unpacker.feed(data)
                for message in unpacker:
                    self.take(stream, message)
        except OSError:
            pass

    def take(self, stream, message):
        if message[0] == 2:
            with self.changed:
                self.calls.append((message[1], message[2][0] if message[2] else {}))
                self.changed.notify_all()
            return
        _, number, operation, (fields,) = message
        error = result = None
        try:
            result = self.answer(operation, fields)
        except Problem as problem:
            error = problem.document
        if result is not SILENCE:
            stream.sendall(msgpack.packb([1, number, error, result]))

    def answer(self, operation, fields):
        document = {
            "cluster": "fake", "history": "1", "map_version": 1, "node": "n1", "protocol": 1,
            "nodes": [{"name": "n1", "number": 1, "http": "127.0.0.1:1",
                       "rpc": self.address, "up": True}],
            "groups": [{"id": 0, "leader": "n1", "term": 1},
                       {"id": 1, "leader": "n1", "term": 1}],
            "slots": [[0, 4095, 1]],
        }
        if operation in ("hello", "cluster.info"):
            return document
        with self.changed:
            self.calls.append((operation, fields))
            self.changed.notify_all()
        if operation not in self.answers:
            raise Problem("not_found", 404)
        answer = self.answers[operation]
        return answer(fields) if callable(answer) else answer

    def grant(self, fields):
        """An answer for lock.acquire."""
        return {"granted": True, "fence": next(self.fences), "lease_ms": 10000}

    def asked(self, operation):
        """The fields of all calls of that operation."""
        with self.changed:
            return [fields for name, fields in self.calls if name == operation]

    def wait_asked(self, operation, count=1, seconds=10):
        """Until it was asked so often; the fields."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: sum(name == operation for name, _ in self.calls) >= count, seconds), \
                f"{operation} was not called {count} times: {self.calls}"
        return self.asked(operation)

    def close(self):
        self.listener.close()
        for stream in self.streams:
            stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def delivery(number, data="x", attempt=1):
    return {"id": f"d{number}", "message_id": f"m{number}", "message": data,
            "attempt": attempt}


def deliver(*batches):
    """An answer for queue.consume: one batch a call, then nothing."""
    left = list(batches)
    return lambda fields: {"messages": left.pop(0) if left else []}
