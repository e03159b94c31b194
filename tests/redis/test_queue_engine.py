"""Queues of real nodes on a real redis-server: waiting, leaving, and Redis going away."""
import http.client
import json
import pathlib
import sys
import threading
import time

import pytest
from redis_server import Redis, wait_until
from script_bench import Connection

sys.path.append( str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from rukun_cluster import Cluster  # noqa: E402


class Nodes:
    def __init__(self, folder, size=3, prefix="", redis=None):
        self.redis = redis or Redis()
        self.owns = redis is None
        url = self.redis.url(query=f"prefix={prefix}" if prefix else "")
        self.cluster = Cluster(size, flags=["--engine", "redis", "--redis-url", url],
                               folder=folder / f"nodes{prefix}").wait_ready()

    def ask(self):
        return Connection(self.redis.port)

    def close(self):
        try:
            self.cluster.close()
        finally:
            if self.owns:
                self.redis.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    nodes = Nodes(tmp_path_factory.mktemp("queues"))
    yield nodes
    nodes.close()


@pytest.fixture
def alone(tmp_path):
    made = []

    def make(**options):
        made.append(Nodes(tmp_path, **options))
        return made[-1]

    yield make
    for nodes in reversed(made):
        nodes.close()


def later(call):
    """Runs it beside; .result() waits for it."""
    box = {}

    def run():
        began = time.monotonic()
        try:
            box["value"] = call()
        except Exception as error:  # told by result()
            box["error"] = error
        box["took"] = time.monotonic() - began

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result(timeout=30):
        thread.join(timeout)
        assert not thread.is_alive(), "no answer"
        if "error" in box:
            raise box["error"]
        result.took = box["took"]
        return box["value"]

    thread.result = result
    return thread


def publish(node, topic, data=1, **fields):
    answer = node.post("/queue/publish", {"topic": topic, "data": data, **fields})
    assert answer.status == 200, answer
    return answer["id"]


def consume(node, topic, **fields):
    answer = node.post("/queue/consume", {"topic": topic, **fields}, timeout=40)
    assert answer.status == 200, answer
    return answer


def wait_parked(nodes, count):
    wait_until(lambda: sum(node.metric("rukun_redis_queue_parked") for node in nodes.cluster)
               == count, what=f"{count} consumers who wait")


def test_what_a_human_sees_in_redis(nodes):
    a, b = nodes.cluster["n1"], nodes.cluster["n2"]
    redis = nodes.ask()
    id = publish(a, "seen").encode()
    assert redis("LRANGE", "q:{seen}", 0, -1) == [id]
    delivery = consume(b, "seen")
    assert delivery["message_id"].encode() == id
    assert redis("LRANGE", "q:{seen}", 0, -1) == []
    assert redis("HEXISTS", "q:inflight:{seen}", id) == 1
    assert a.post("/queue/ack", {"id": delivery["id"]}).status == 200
    assert redis("HEXISTS", "q:inflight:{seen}", id) == 0
    assert redis("HGET", "{q:topics}", "seen") is not None


def test_names_with_marks(nodes):
    a, b = nodes.cluster["n1"], nodes.cluster["n2"]
    for topic, key in (("a:b%c", "q:{a%3Ab%25c}"), ("x{tag}y", "q:{tag}x%7Btag%7Dy"),
                       ("{}z", "q:{%7B%7Dz}"), ("m/dead", "q:{m}:dead")):
        id = publish(a, topic)
        assert nodes.ask()("LRANGE", key, 0, -1) == [id.encode()]
        assert b.post("/queue/ack", {"id": consume(b, topic)["id"]}).status == 200


def test_a_publish_wakes_a_consumer_at_another_node(nodes):
    a, b = nodes.cluster["n1"], nodes.cluster["n2"]
    waiting = later(lambda: consume(a, "wake", wait_ms=20000))
    wait_parked(nodes, 1)
    publish(b, "wake", "hello")
    assert waiting.result()["message"] == "hello"
    assert waiting.result.took < 5


@pytest.mark.parametrize("how", ["delay", "visibility", "nack"])
def test_what_becomes_due_wakes_a_consumer(nodes, how):
    a, b, topic = nodes.cluster["n1"], nodes.cluster["n2"], f"due-{how}"
    if how != "delay":
        publish(b, topic)
        held = consume(b, topic, visibility_ms=700)
    waiting = later(lambda: consume(a, topic, wait_ms=20000))
    wait_parked(nodes, 1)
    began = time.monotonic()
    if how == "delay":
        publish(b, topic, delay_ms=700)
    if how == "nack":
        b.post("/queue/nack", {"id": held["id"], "delay_ms": 700})
    assert waiting.result()["message"] == 1
    assert 0.3 < time.monotonic() - began < 5


@pytest.mark.sanitize
def test_who_waits_longest_is_served_first(nodes):
    node = nodes.cluster["n3"]
    waiting = []
    for i in range(4):
        waiting.append(later(lambda: consume(node, "fifo", wait_ms=20000)))
        wait_parked(nodes, i + 1)
    for i in range(4):
        publish(nodes.cluster["n1"], "fifo", i)
        assert waiting[i].result()["message"] == i
    assert consume(node, "fifo", wait_ms=300)["message"] is None


def test_no_wake_is_lost(nodes):
    """Consumers wait at all nodes while messages come in ones and twos: none lies for long."""
    came, late, count = {}, [], 200

    def consumer(node):
        while len(came) < count:
            answer = consume(node, "steady", wait_ms=2000)
            if answer["message"] is not None:
                came[answer["message"]] = time.monotonic()
                node.post("/queue/ack", {"id": answer["id"]})

    waiting = [later(lambda n=node: consumer(n)) for node in list(nodes.cluster) * 2]
    for i in range(count):
        node = list(nodes.cluster)[i % 3]
        publish(node, "steady", i)
        if i % 2:
            sent = time.monotonic()
            wait_until(lambda: i in came and i - 1 in came, what=f"message {i} is taken")
            late.append(time.monotonic() - sent)
    for thread in waiting:
        thread.result()
    # A look that only a timer brings about would take half a second or ten.
    assert sorted(late)[len(late) * 9 // 10] < 0.4, late


@pytest.mark.sanitize
def test_a_consumer_that_leaves_takes_nothing_along(nodes):
    a, b = nodes.cluster["n1"], nodes.cluster["n2"]
    gone = http.client.HTTPConnection(a.http)
    gone.request("POST", "/queue/consume", json.dumps({"topic": "left", "wait_ms": 20000}),
                 {"Content-Type": "application/json"})
    wait_parked(nodes, 1)
    gone.close()
    wait_parked(nodes, 0)
    publish(b, "left", "kept")
    delivery = consume(b, "left", wait_ms=5000)
    assert (delivery["message"], delivery["attempt"]) == ("kept", 1)


def test_topics_that_nobody_asks_for_are_swept(nodes):
    redis = nodes.ask()
    publish(nodes.cluster["n1"], "swept", ttl_ms=50)
    wait_until(lambda: redis("HLEN", "q:{swept}:msg") == 0, what="the message is gone")


def test_dead_letters_are_listed_by_themselves(nodes):
    node = nodes.cluster["n1"]
    publish(node, "mortal")
    node.post("/queue/nack", {"id": consume(node, "mortal")["id"], "dead": True})
    wait_until(lambda: {"topic": "mortal/dead", "messages": 1}.items() <= {
        **(node.post("/queue/list", {"prefix": "mortal/"})["topics"] or [{}])[0]}.items()
        or "mortal/dead" in str(node.post("/queue/list", {"prefix": "mortal/"}).data),
        what="mortal/dead is listed")


@pytest.mark.sanitize
def test_ids_of_several_topics_in_one_call(nodes):
    node = nodes.cluster["n2"]
    ids = []
    for topic in ("many1", "many2", "many3"):
        publish(node, topic)
        ids.append(consume(node, topic)["id"])
    answer = node.post("/queue/ack", {"ids": [ids[1], ids[0], ids[1], ids[2]]})
    assert answer.status == 200 and answer["ack"] is False
    assert [line["ack"] for line in answer["results"]] == [True, True, False, True]


def test_redis_stands_still_for_a_while(alone):
    nodes = alone()
    a = nodes.cluster["n1"]
    id = publish(a, "still")
    nodes.redis.pause()
    try:
        short = a.post("/queue/publish", {"topic": "still", "data": 2},
                       headers={"Rukun-Deadline-Ms": "600", "Idempotency-Key": "me/1"})
        assert short.status in (503, 504), short
        read = a.post("/queue/info", {"topic": "still"},
                      headers={"Rukun-Deadline-Ms": "300"})
        assert (read.status, read["outcome"]) == (503, "not_done")
        patient = later(lambda: publish(a, "still", 3))
        time.sleep(0.3)
    finally:
        nodes.redis.resume()
    patient.result()
    again = a.post("/queue/publish", {"topic": "still", "data": 2},
                   headers={"Idempotency-Key": "me/1"})
    assert again.status == 200
    out = [consume(a, "still")["message"] for _ in range(4)]
    assert sorted(map(str, out)) == ["1", "2", "3", "None"], out
    assert id


@pytest.mark.sanitize
def test_redis_comes_back_empty(alone):
    nodes = alone()
    a, b = nodes.cluster["n1"], nodes.cluster["n2"]
    publish(a, "lost")
    old = consume(a, "lost")["id"]
    waiting = later(lambda: consume(b, "lost", wait_ms=25000))
    nodes.redis.kill()
    away = a.post("/queue/publish", {"topic": "lost", "data": 2},
                  headers={"Rukun-Deadline-Ms": "500"})
    assert (away.status, away["outcome"]) == (503, "not_done")
    nodes.redis.start()
    assert publish(a, "lost", "new")
    assert waiting.result()["message"] == "new"
    answer = b.post("/queue/ack", {"id": old})
    assert (answer.status, answer["code"]) == (409, "gone")


@pytest.mark.sanitize
def test_redis_loses_all_but_its_connections(alone):
    """FLUSHALL: no node sees a restart. What a node remembers of the old data does no harm."""
    nodes = alone()
    a, b, c = nodes.cluster
    for node in nodes.cluster:
        publish(node, "first")
    old = consume(b, "first")["id"]
    nodes.ask()("FLUSHALL")
    # Another topic gets the number that the first one had.
    id = publish(a, "second")
    assert nodes.ask()("HGETALL", "{q:topics}") == [b"second", b"1"]
    delivery = consume(c, "second")
    assert delivery["message_id"] == id
    assert b.post("/queue/ack", {"id": old})["code"] == "gone"
    assert b.post("/queue/ack", {"id": delivery["id"]}).status == 200
    for node in nodes.cluster:
        publish(node, "first")
    ids = [line["id"] for line in consume(b, "first", max=10)["messages"]]
    assert len(ids) == 3 and c.post("/queue/ack", {"ids": ids})["ack"] is True


def test_another_cluster_s_data_is_refused(alone, tmp_path):
    first = alone(size=1)
    publish(first.cluster["n1"], "t")
    second = Cluster(1, flags=["--engine", "redis", "--redis-url", first.redis.url()],
                     folder=tmp_path / "second")
    try:
        node = second["n1"]
        wait_until(lambda: node.is_running and node.log.exists() and
                   "Redis holds the data of cluster" in node.log_text(), what="it is said")
        answer = node.post("/queue/publish", {"topic": "t", "data": 1})
        assert answer.status == 503 and "another prefix" in answer["detail"]
        time.sleep(1)  # asked again and again, and not said each time
        assert node.log_text().count('msg="Redis holds the data of cluster') == 1
    finally:
        second.close()
    beside = alone(size=1, prefix="two:", redis=first.redis)
    publish(beside.cluster["n1"], "t")
    assert first.ask()("EXISTS", "two:q:{t}", "two:rukun:meta") == 2


def answers(node):
    try:
        return node.metric("rukun_redis_up") == 1
    except OSError:
        return False


def settle(node, how, message, **fields):
    answer = node.post(f"/queue/{how}", {"id": message["id"], **fields})
    assert answer.status == 200, answer


@pytest.mark.sanitize
def test_a_full_redis_refuses_and_drains(alone):
    """Also what a node does that is started then, and what became due meanwhile."""
    nodes = alone(size=1)
    node, redis = nodes.cluster["n1"], nodes.ask()
    for i in range(9):
        publish(node, "full", i, ttl_ms=3600000)
    publish(node, "full", "short", ttl_ms=300)
    taken = consume(node, "full", max=3, visibility_ms=300)["messages"]
    redis("CONFIG", "SET", "maxmemory", "1")
    node.restart()

    def refused(path, **fields):
        answer = node.post(path, {"topic": "full", **fields})
        assert (answer.status, answer["code"], answer["outcome"]) == (507, "full", "not_done")

    def state():
        info = node.post("/queue/info", {"topic": "full"})
        return info.status == 200 and (info["ready"], info["in_flight"], info["dead"])

    wait_until(lambda: answers(node), what="it runs again")
    wait_until(lambda: state() == (9, 0, 0), what="what is due is done")
    refused("/queue/publish", data=1)
    refused("/queue/configure", retry_ms=1)
    settle(node, "ack", taken[0])
    again = consume(node, "full", max=10, visibility_ms=60000)["messages"]
    assert [line["message"] for line in again] == list(range(1, 9))
    waiting = later(lambda: consume(node, "full", wait_ms=20000))
    wait_parked(nodes, 1)
    settle(node, "extend", again[0], visibility_ms=60000)
    settle(node, "nack", again[0], delay_ms=100)
    assert waiting.result()["message"] == 1
    settle(node, "nack", again[1], dead=True)
    settle(node, "nack", again[2])
    settle(node, "delete", again[3])
    assert node.post("/queue/peek", {"topic": "full", "dead": True})["messages"][0]["message"] == 2
    settle(node, "ack", consume(node, "full/dead"))
    assert node.post("/queue/purge", {"topic": "full"}).status == 200
    assert state() == (0, 0, 0)
    refused("/queue/publish", data=1)
    redis("CONFIG", "SET", "maxmemory", "0")
    publish(node, "full")


@pytest.mark.sanitize
def test_nothing_is_lost_or_done_twice_while_connections_break(alone):
    """Publishers and consumers at all nodes, whose connections to Redis are cut again and
    again: what was answered is there once, and what was acknowledged does not come back."""
    nodes = alone()
    done, taken, errors = [], [], []
    stop = threading.Event()

    def publisher(number):
        node = list(nodes.cluster)[number]
        for i in range(300):
            publish(node, "torn", f"{number}-{i}")
            done.append(f"{number}-{i}")

    def consumer(number):
        node = list(nodes.cluster)[number]
        while not stop.is_set():
            answer = consume(node, "torn", max=10, wait_ms=500, visibility_ms=60000)
            for line in answer["messages"]:
                acked = node.post("/queue/ack", {"id": line["id"]})
                if acked.status != 200:
                    errors.append(acked)
                taken.append(line["message"])

    consumers = [later(lambda n=n: consumer(n)) for n in range(3)]
    publishers = [later(lambda n=n: publisher(n)) for n in range(3)]
    redis = nodes.ask()
    cuts = 0
    while any(thread.is_alive() for thread in publishers):
        redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        redis("CLIENT", "KILL", "TYPE", "pubsub")
        cuts += 1
        time.sleep(0.1)
    for thread in publishers:
        thread.result()
    wait_until(lambda: len(taken) >= len(done), what="all are taken")
    time.sleep(0.5)
    stop.set()
    for thread in consumers:
        thread.result()
    assert cuts > 3 and not errors
    assert sorted(taken) == sorted(done) and len(set(taken)) == 900
