"""Python as a process: Ctrl-C, fork, the end of the interpreter."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import rukun
from fake_node import SILENCE


def run_script(text, node, **options):
    environment = dict(os.environ, NODE=node.address,
                       PYTHONPATH=os.path.dirname(os.path.dirname(rukun.__file__)))
    return subprocess.Popen([sys.executable, "-B", "-c", textwrap.dedent(text)],
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **options)


def finish(process, seconds=20):
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"does not end\n{out}\n{err}")
    return process.returncode, out, err


WAITS = {
    "lock.acquire": "client.lock('a').acquire()",
    "queue.consume": "next(client.queue('t').consume())",
    "cache.get": "client.cache().get('k')",
}


@pytest.mark.parametrize("operation", WAITS)
def test_ctrl_c_ends_a_call_that_waits(node, operation):
    node.answers[operation] = SILENCE
    process = run_script(f"""
        import os, rukun, time
        client = rukun.Client(os.environ["NODE"], deadline=60)
        try:
            {WAITS[operation]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        client.lock("after")
        print("alive", flush=True)
        """, node)
    node.wait_asked(operation)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert (status, out) == (0, "interrupted\nalive\n"), err
    assert time.monotonic() - began < 5
    if operation == "lock.acquire":
        assert node.asked("lock.cancel")


def test_ctrl_c_ends_an_open_that_waits(node):
    process = run_script("""
        import rukun
        print("begins", flush=True)
        try:
            rukun.Client("127.0.0.1:1", deadline=60)
        except KeyboardInterrupt:
            print("interrupted")
        """, node)
    assert process.stdout.readline() == "begins\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert finish(process)[1] == "interrupted\n"


def test_a_handler_that_does_not_raise_lets_the_call_go_on(node):
    node.answers["lock.acquire"] = SILENCE
    process = run_script("""
        import os, rukun, signal
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        client = rukun.Client(os.environ["NODE"], deadline=60)
        try:
            client.lock("a").acquire()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """, node)
    node.wait_asked("lock.acquire")
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "handled\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert finish(process)[1] == "interrupted\n"


def test_ctrl_c_stops_run_after_the_job_at_hand(node):
    handed = []

    def consume(fields):
        if handed:
            return SILENCE
        handed.append(1)
        return {"messages": [{"id": "d1", "message_id": "m1", "message": 1, "attempt": 1}]}
    node.answers |= {"queue.consume": consume, "queue.ack": {"ack": True},
                     "queue.info": {"topic": "t", "visibility_ms": 30000}}
    process = run_script("""
        import os, rukun, time
        def handle(job):
            print("begins", flush=True)
            time.sleep(1)
            print("ends", flush=True)
        client = rukun.Client(os.environ["NODE"])
        try:
            client.queue("t").run(handle, concurrency=3)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """, node)
    assert process.stdout.readline() == "begins\n"
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert (status, out) == (0, "ends\ninterrupted\n"), err
    assert [fields["id"] for fields in node.asked("queue.ack")] == ["d1"]


def test_after_a_fork_the_child_is_refused(node):
    node.answers["lock.acquire"] = node.grant
    process = run_script("""
        import os, rukun
        client = rukun.Client(os.environ["NODE"])
        lock = client.lock("a").acquire()
        job = rukun.Job(client, "d1", "m1", 1, b"1", 1, 0.0)
        def child():
            calls = [lambda: client.lock("b").acquire(), lambda: client.cache().get("k"),
                     lambda: client.queue("t").publish(1), lambda: client.call("lock.graph"),
                     lock.check, lock.release, lambda: lock.state, lambda: lock.left, job.ack,
                     client.interrupt, client.cluster]
            for number, call in enumerate(calls):
                try:
                    call()
                    print("not refused:", number)
                except rukun.Forked:
                    pass
            client.close()
            with rukun.Client(os.environ["NODE"]) as own:
                own.lock("c").acquire()
            print("child done", flush=True)
        pid = os.fork()
        if pid == 0:
            child()
            del lock, client
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        lock.check()
        lock.release()
        print("parent done")
        """, node)
    assert finish(process) == (0, "child done\nparent done\n", "")
    # The child's end has released nothing of the parent's: that one did, once.
    assert [fields["resource"] for fields in node.asked("lock.release")].count("a") == 1


def test_the_end_of_the_process_ends_the_session(node):
    node.answers["lock.acquire"] = node.grant
    process = run_script("""
        import os, rukun
        client = rukun.Client(os.environ["NODE"])
        client.lock("a").acquire()
        lock = client.lock("b").acquire()
        """, node)
    assert finish(process) == (0, "", "")
    assert node.asked("session.close")


def test_renewals_go_on_while_the_interpreter_is_busy(node):
    node.answers["session.open"] = {"session": "s1", "ttl_ms": 1000}
    node.answers["session.keepalive"] = {"ok": True, "ttl_ms": 1000}
    node.answers["lock.acquire"] = node.grant
    with rukun.Client(node.address, session_ttl=1) as client, client.lock("a") as lock:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            # One long bytecode after the other: the interpreter's lock is hardly free.
            sum(range(2_000_000))
        lock.check()
    assert len(node.asked("session.keepalive")) >= 3
