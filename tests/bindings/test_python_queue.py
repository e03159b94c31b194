"""What the Python layer does with queues, against a node that answers as told."""

import threading
import time

import pytest
import rukun
from fake_node import SILENCE, Problem, deliver, delivery


@pytest.fixture
def queue(node, client):
    node.answers |= {"queue.ack": {"ack": True}, "queue.nack": {"ok": True},
                     "queue.extend": {"ok": True, "visibility_ms": 1000},
                     "queue.info": {"topic": "t", "visibility_ms": 30000}}
    return client.queue("t")


def test_publish(node, queue):
    node.answers["queue.publish"] = {"ok": True, "id": "m1"}
    assert queue.publish({"a": 1}, id="p", group="g", delay=1.5, priority=9, ttl=60) == "m1"
    fields = node.asked("queue.publish")[0]
    assert fields["topic"] == "t" and fields["data"] == {"a": 1}
    assert fields["publish_id"] == "p" and fields["group"] == "g"
    assert fields["delay_ms"] == 1500 and fields["priority"] == 9 and fields["ttl_ms"] == 60000
    queue.publish(b"\0\1")
    assert node.asked("queue.publish")[1]["data"] == b"\0\1"


def test_publish_many(node, queue):
    node.answers["queue.publish"] = lambda fields: {
        "ok": True, "ids": [f"m{i}" for i in range(len(fields["messages"]))]}
    assert queue.publish_many([1, b"two"]) == ["m0", "m1"]
    assert [line["data"] for line in node.asked("queue.publish")[0]["messages"]] == [1, b"two"]
    assert queue.publish_many([1, 2], ids=["a", "b"]) == ["m0", "m1"]
    assert [line["publish_id"] for line in node.asked("queue.publish")[1]["messages"]] == \
        ["a", "b"]
    with pytest.raises(rukun.Error):
        queue.publish_many([])
    with pytest.raises(ValueError):
        queue.publish_many([1], ids=[])


def test_job_acks_on_normal_exit(node, queue):
    node.answers["queue.consume"] = deliver([delivery(1, {"a": 1}, attempt=3)])
    seen = []
    for job in queue.consume(visibility=5, wait=0):
        with job:
            seen.append((job.id, job.message_id, job.attempt, job.data))
    assert seen == [("d1", "m1", 3, {"a": 1})]
    assert [fields["id"] for fields in node.asked("queue.ack")] == ["d1"]
    assert not node.asked("queue.nack")
    assert node.asked("queue.consume")[0]["visibility_ms"] == 5000


def test_job_goes_back_with_backoff_on_exception(node, queue):
    node.answers["queue.consume"] = deliver([delivery(1)])
    with pytest.raises(KeyError):
        for job in queue.consume(wait=0):
            with job:
                raise KeyError("x")
    (fields,) = node.asked("queue.nack")
    assert fields["id"] == "d1" and "delay_ms" not in fields
    assert not node.asked("queue.ack")


def test_job_goes_back_at_once_on_ctrl_c(node, queue):
    node.answers["queue.consume"] = deliver([delivery(1)])
    with pytest.raises(KeyboardInterrupt):
        for job in queue.consume(wait=0):
            with job:
                raise KeyboardInterrupt
    assert node.asked("queue.nack")[0]["delay_ms"] == 0


@pytest.mark.parametrize("leave", ["next", "break", "error"])
def test_job_left_alone_is_given_back(node, queue, leave):
    node.answers["queue.consume"] = deliver([delivery(1), delivery(2)])
    jobs = queue.consume(wait=0, max=2)
    try:
        for job in jobs:
            if leave == "break":
                break
            if leave == "error":
                raise KeyError("x")
    except KeyError:
        pass
    jobs.close()
    assert not node.asked("queue.ack")
    assert sorted(fields["id"] for fields in node.asked("queue.nack")) == ["d1", "d2"]
    assert all(fields["delay_ms"] == 0 for fields in node.asked("queue.nack"))


def test_kept_or_settled_job_is_not_given_back(node, queue):
    node.answers["queue.consume"] = deliver([delivery(1), delivery(2), delivery(3)])
    for job in queue.consume(wait=0, max=3):
        if job.id == "d1":
            kept = job.keep()
        elif job.id == "d2":
            job.ack()
        else:
            job.nack(2)
    assert [fields["id"] for fields in node.asked("queue.ack")] == ["d2"]
    assert [(fields["id"], fields["delay_ms"]) for fields in node.asked("queue.nack")] == \
        [("d3", 2000)]
    with kept:
        pass
    assert [fields["id"] for fields in node.asked("queue.ack")] == ["d2", "d1"]


def test_stale_ack_is_heard_of(node, queue):
    node.answers["queue.consume"] = deliver([delivery(1)])

    def refuse(fields):
        raise Problem("stale_delivery")
    node.answers["queue.ack"] = refuse
    with pytest.raises(rukun.StaleDelivery):
        for job in queue.consume(wait=0):
            with job:
                pass


def test_jobs_of_a_batch_are_extended_as_their_turn_comes(node, queue):
    node.answers["queue.consume"] = deliver([delivery(1), delivery(2), delivery(3)])

    def extend(fields):
        if fields["id"] == "d3":
            raise Problem("stale_delivery")
        return {"ok": True, "visibility_ms": 400}
    node.answers["queue.extend"] = extend
    seen = []
    for job in queue.consume(wait=0, max=3, visibility=0.4):
        with job:
            seen.append(job.id)
            time.sleep(0.2)
    assert seen == ["d1", "d2"]  # the third is someone else's by now, so it is not begun
    assert [fields["id"] for fields in node.asked("queue.extend")] == ["d2", "d3"]


def test_take_and_operations(node, queue):
    node.answers |= {"queue.consume": deliver([delivery(1), delivery(2)]),
                     "queue.pause": {"ok": True}, "queue.purge": {"ok": True, "count": 3},
                     "queue.redrive": {"ok": True, "count": 2}}
    assert [job.id for job in queue.take(max=2)] == ["d1", "d2"]
    assert queue.take() == []
    queue.pause()
    assert queue.purge() == 3 and queue.redrive(limit=5) == 2
    assert node.asked("queue.redrive")[0]["limit"] == 5
    assert queue.info()["visibility_ms"] == 30000


def test_run_handles_extends_and_stops_gracefully(node, queue):
    ready = [delivery(i) for i in range(1, 5)]
    lock = threading.Lock()

    def consume(fields):
        with lock:
            return {"messages": [ready.pop()]} if ready else SILENCE
    node.answers["queue.consume"] = consume
    stop = threading.Event()
    handled = []

    def handle(job):
        if job.id == "d2":
            raise ValueError("no")
        if job.id == "d3":
            time.sleep(0.5)  # longer than its visibility
            stop.set()
            time.sleep(0.2)  # still finished
        handled.append(job.id)
    began = time.monotonic()
    queue.run(handle, concurrency=2, visibility=0.3, stop=stop)
    assert time.monotonic() - began < 10
    assert sorted(handled) == ["d1", "d3", "d4"]
    assert sorted(fields["id"] for fields in node.asked("queue.ack")) == ["d1", "d3", "d4"]
    assert [fields["id"] for fields in node.asked("queue.nack")] == ["d2"]
    assert "d3" in {fields["id"] for fields in node.asked("queue.extend")}
