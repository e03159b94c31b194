"""A large state for the programs of this folder: how it is made and how nodes stand with it.

Objects are small on purpose, so that what a node keeps beside the bytes of its users shows:
messages with 64 bytes of data, cache entries with 64 bytes under keys of 9, locks with a
lease of a day (two objects each: the lock and its grant).
"""

import collections
import os
import pathlib
import socket
import time

import msgpack

DATA = b"d" * 64
DAY_MS = 24 * 3600 * 1000
TOPICS = 60
BATCH = 500  # messages in a call
WINDOW = 512  # single calls under way on the connection


class Pipe:
    """An RPC connection that keeps many calls under way and wants each of them answered."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        self.packer = msgpack.Packer()
        self.open = 0
        self.send([("hello", {"protocol": 1, "client": "fill"})])
        self.drain(0)

    def send(self, calls):
        parts = [self.packer.pack([0, i, name, [fields]])
                 for i, (name, fields) in enumerate(calls)]
        self.open += len(parts)
        self.socket.sendall(b"".join(parts))

    def drain(self, most):
        """Takes answers until at most so many are missing."""
        while self.open > most:
            data = self.socket.recv(1 << 18)
            if not data:
                raise ConnectionError("closed by the node")
            self.unpacker.feed(data)
            for _, _, error, _ in self.unpacker:
                if error is not None:
                    raise RuntimeError(f"refused: {error}")
                self.open -= 1

    def run(self, calls, window):
        """Sends calls in pieces of half a window, with at most a window of them open."""
        piece = []
        for call in calls:
            piece.append(call)
            if len(piece) == max(1, window // 2):
                self.drain(window - len(piece))
                self.send(piece)
                piece = []
        self.send(piece)
        self.drain(0)


def messages(count):
    batch = [{"data": DATA}] * BATCH
    for number in range(0, count, BATCH):
        yield "queue.publish", {"topic": f"fill-{number // BATCH % TOPICS}",
                                "messages": batch[:count - number]}


def entries(count, cache="fill"):
    for number in range(count):
        yield "cache.put", {"key": f"k{number:08}", "value": DATA, "cache": cache}


def locks(count):
    for number in range(count):
        yield "lock.acquire", {"resource": f"l{number:08}", "owner": "fill",
                               "lease_ms": DAY_MS}


def fill(node, message_count, entry_count, lock_count, say=lambda text: None):
    """Makes the state by calls to one node; seconds by kind."""
    times = {}
    pipe = Pipe(node.rpc)
    pipe.run([("cache.configure", {"cache": "fill", "bytes_max": 0})], 1)
    for kind, calls, count, window in (
            ("messages", messages, message_count, 16),
            ("entries", entries, entry_count, WINDOW), ("locks", locks, lock_count, WINDOW)):
        start = time.monotonic()
        pipe.run(calls(count), window)
        times[kind] = time.monotonic() - start
        if count:
            say(f"{count:,} {kind} in {times[kind]:.1f} s")
    pipe.socket.close()
    return times


def shares(count):
    """Messages, cache entries and locks that are so many objects together."""
    return count * 6 // 10, count * 3 // 10, count // 20


Turns = collections.namedtuple("Turns", "count over_5_ms busy_5_ms longest_ms longest_busy_ms")


def turns(node):
    """The turns of the node's loop so far, how many took more than 5 ms by the clock and of
    processor time, and the longest of late."""
    values = {}
    for line in node.get("/metrics").body.decode().splitlines():
        if line.startswith("rukun_loop_turn_"):
            name, value = line.rsplit(" ", 1)
            values[name.removeprefix("rukun_loop_turn_")] = float(value)

    def over(name):
        return int(values[f"{name}_count"] - values[f'{name}_bucket{{le="0.005"}}'])

    return Turns(int(values["seconds_count"]), over("seconds"), over("processor_seconds"),
                 1000 * values['longest_seconds{of="clock"}'],
                 1000 * values['longest_seconds{of="processor"}'])


def objects(node):
    return int(node.metric("rukun_group_state_objects"))


def resident_mb(node):
    return _status(node, "VmRSS") / 1024


def _status(node, name):
    path = pathlib.Path(f"/proc/{node.process.pid}/status")
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def cpu_seconds(node):
    """User and system time of a node so far."""
    fields = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def folder_mb(path):
    """What files of a folder take, as they are now: files come and go."""
    total = 0
    for file in pathlib.Path(path).rglob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            pass
    return total / (1 << 20)

