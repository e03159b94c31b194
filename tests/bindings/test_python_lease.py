"""A lock that was once reported lost stays lost, also where the news of its end and a late
answer race each other inside the client."""

import os
import pathlib
import threading
import time

import pytest
import rukun
from fake_node import FakeNode

ROUNDS = 2


def io_thread():
    """The id of the newest I/O thread of librukun in this process."""
    tasks = pathlib.Path("/proc/self/task")
    return max(int(task.name) for task in tasks.iterdir()
               if (task / "comm").read_text().strip() == "rukun-io")


class Starved:
    """Lets a thread run only when this one, on the same core, does not want to."""

    def __init__(self, thread):
        self.thread = thread

    def __enter__(self):
        self.cores = os.sched_getaffinity(0)
        core = {min(self.cores)}
        os.sched_setaffinity(0, core)
        os.sched_setaffinity(self.thread, core)
        os.sched_setscheduler(self.thread, os.SCHED_IDLE, os.sched_param(0))

    def __exit__(self, *_):
        os.sched_setscheduler(self.thread, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(self.thread, self.cores)
        os.sched_setaffinity(0, self.cores)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the node needs a core, too")
def test_a_late_keepalive_revives_no_lock():
    """The client sees the end of the lease before its I/O thread does; the keepalive sent last
    is answered just then."""
    for _ in range(ROUNDS):
        late = threading.Event()
        answered = threading.Event()

        def keepalive(fields):
            assert late.wait(10)
            answered.set()
            return {"ok": True, "ttl_ms": 1000}

        with FakeNode() as node:
            node.answers["session.open"] = {"session": "s1", "ttl_ms": 1000}
            node.answers["session.keepalive"] = keepalive
            node.answers["lock.acquire"] = node.grant
            with rukun.Client(node.address, session_ttl=1, deadline=5) as client:
                lock = client.lock("a").acquire()
                while lock.left > 0.02:
                    time.sleep(0.002)
                with Starved(io_thread()):
                    while lock.state != "lost":
                        pass
                    late.set()
                    until = time.monotonic() + 0.05
                    while time.monotonic() < until:
                        assert lock.state == "lost"
                assert answered.wait(10)
                time.sleep(0.05)
                assert lock.state == "lost"
                with pytest.raises(rukun.LockLost):
                    lock.check()
                node.wait_asked("session.close")
                assert client.lock("b").acquire().state == "safe"  # under a new session
            assert len(node.asked("session.open")) == 2
