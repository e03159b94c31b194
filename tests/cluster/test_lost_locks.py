"""A lost lock is known to its holder by its own clock, even with the network dead."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rukun_cluster import BUILD, SLOW, wait_until

sys.path.insert(0, str(BUILD / "bindings" / "python"))
rukun = pytest.importorskip("rukun", reason="the Python binding is not built")
if not hasattr(rukun, "Client"):
    pytest.skip("the Python binding is not built", allow_module_level=True)


def endpoints(nodes):
    return ",".join(node.rpc for node in nodes)


def test_the_holder_knows_without_the_network(fresh):
    cluster = fresh().wait_ready()
    with rukun.Client(endpoints(cluster), session_ttl=3, deadline=2) as client:
        lock = client.lock("alone", wait=5)
        lock.acquire()
        lock.check()
        for node in cluster:
            node.pause()
        start = time.monotonic()
        wait_until(lambda: lock.state == "jeopardy", 5, "jeopardy", pause=0.01)
        lock.check()  # not yet
        wait_until(lambda: lock.state == "lost", 5, "lost", pause=0.01)
        assert time.monotonic() - start < 3 * SLOW
        with pytest.raises(rukun.LockLost):
            lock.check()
        for node in cluster:
            node.resume()
        cluster.wait_ready()
        time.sleep(0.5)
        assert lock.state == "lost"  # for good, although the node may have kept the session


def test_a_lease_counts_from_the_grant(cluster):
    """A lock with a lease of its own, granted after a wait longer than that lease, is held."""
    with rukun.Client(endpoints(cluster)) as first, rukun.Client(endpoints(cluster)) as second:
        held = first.lock("waited", lease=3, wait=0)
        held.acquire()
        waiting = second.lock("waited", lease=1.5, wait=20)
        waiting.acquire()  # the first lease runs out
        waiting.check()
        assert waiting.fence > held.fence and waiting.left > 0.5
        waiting.release()


HOLDER = """
import sys, rukun
client = rukun.Client(sys.argv[1], session_ttl=2, deadline=2)
lock = client.lock("handed", wait=5)
lock.acquire()
print(lock.fence, flush=True)
sys.stdin.readline()
try:
    lock.check()
    print("held", flush=True)
except rukun.LockLost:
    print("lost", flush=True)
"""


def test_a_holder_that_stood_still_knows_at_once(fresh):
    """The process is stopped for longer than its lease, and another gets the lock: the first
    thing that the holder sees when it goes on is that it lost it, and the fence rose."""
    cluster = fresh().wait_ready()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, endpoints(cluster)], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=os.environ | {"PYTHONPATH": str(BUILD / "bindings" / "python")})
    try:
        fence = int(holder.stdout.readline())
        holder.send_signal(signal.SIGSTOP)
        with rukun.Client(endpoints(cluster)) as other:
            with other.lock("handed", wait=30) as successor:
                assert successor.fence > fence
                holder.stdin.write("go\n")
                holder.stdin.flush()
                holder.send_signal(signal.SIGCONT)
                assert holder.stdout.readline().strip() == "lost"
    finally:
        holder.kill()
        holder.wait()
