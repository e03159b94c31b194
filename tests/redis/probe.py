"""redis_probe, the client under test as a process: what it says is kept in order.

    with Probe(redis.url()) as probe:
        probe.wait_up()
        assert probe.send("GET", "k")["status"] == "ok"
"""

import json
import subprocess
import threading
import time

from redis_server import BUILD, SLOW, wait_until

PROBE = BUILD / "tests" / "redis" / "redis_probe"


class Probe:
    def __init__(self, url):
        self.process = subprocess.Popen([PROBE, url], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = []
        self.number = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            said = json.loads(line)
            self.lines.append(said)

    def say(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def wait(self, check, timeout=10.0, what="a line", since=0):
        """The first line, of those after the first `since`, for which check is true."""
        def found():
            return next((line for line in self.lines[since:] if check(line)), None)
        return wait_until(lambda: found() or self._is_alive() and None, timeout, what, 0.005)

    def _is_alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the probe ended: {self.process.stderr.read().decode()}")
        return True

    def wait_event(self, event, timeout=10.0, since=0, **fields):
        return self.wait(lambda line: line.get("event") == event and
                         all(line.get(name) == value for name, value in fields.items()),
                         timeout, f"{event} {fields}", since)

    def wait_up(self, is_up=True, timeout=10.0, since=0):
        self.wait_event("state", timeout, since, up=is_up)
        return self

    # ---- commands ----

    def start(self, *args, key=None, deadline=5000, flags="-"):
        """Sends without waiting; returns the tag for result()."""
        self.number += 1
        if key is None:
            key = args[1] if len(args) > 1 else "-"
        self.say("send", self.number, deadline, flags, key, *args)
        return str(self.number)

    def start_script(self, name, keys, *args, deadline=5000, flags="-"):
        self.number += 1
        self.say("eval", self.number, deadline, flags, name, len(keys), *keys, *args)
        return str(self.number)

    def result(self, tag, timeout=15.0):
        return self.wait(lambda line: line.get("tag") == tag and "status" in line, timeout,
                         f"the answer to {tag}")

    def send(self, *args, **options):
        return self.result(self.start(*args, **options))

    def eval(self, name, keys, *args, **options):
        return self.result(self.start_script(name, keys, *args, **options))

    def ok(self, *args, **options):
        result = self.send(*args, **options)
        assert result["status"] == "ok", result
        return result["reply"]

    def script(self, name, text):
        self.say("script", name, text)

    def ask(self, event, *words, timeout=10.0):
        since = len(self.lines)
        self.say(*words)
        return self.wait_event(event, timeout, since)

    def stats(self):
        return self.ask("stats", "stats")

    def server_of(self, key="-"):
        return self.ask("server_of", "server", key)

    def logs(self, level=None):
        return [line["text"] for line in self.lines if line.get("event") == "log" and
                level in (None, line["level"])]

    # ---- load ----

    def load(self, keys=50, depth=20, deadline=5000, flags="-", *more):
        self.say("load", keys, depth, deadline, flags, *more)

    def stop_load(self, timeout=20.0):
        return self.ask("load", "stop", timeout=timeout)

    def close(self):
        if self.process.poll() is None:
            try:
                self.say("quit")
                self.process.wait(10 * SLOW)
            except (OSError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
                raise
        self.reader.join()
        errors = self.process.stderr.read().decode()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        assert self.process.returncode == 0 and not errors, errors

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
        else:
            self.process.kill()
            self.process.wait()


def sleep(seconds):
    """For what must not happen meanwhile; never in place of a condition."""
    time.sleep(seconds)
