"""Every operation on every node, in JSON and in msgpack, over HTTP and over RPC."""

import itertools
import threading
import time

import pytest

from rukun_cluster import ENGINE, JSON, MSGPACK, RpcError, wait_until

NODES = ["n1", "n2", "n3"]
counter = itertools.count(1)
# What an answered write is worth, as stats name it.
WAIT = 1 if ENGINE == "redis-sentinel" else 0
DURABILITY = "fsync on a majority" if ENGINE == "embedded" else f"redis wait={WAIT} aof="


def unique(stem):
    return f"{stem}-{next(counter)}"


class Http:
    """Operations over HTTP in one encoding; errors are returned, not raised."""

    def __init__(self, node, encoding):
        self.node = node
        self.encoding = encoding

    def __call__(self, name, /, **fields):
        answer = self.node.post("/" + name.replace(".", "/"), fields, self.encoding)
        kind = "json" if self.encoding == JSON else "msgpack"
        if answer.status == 200:
            assert answer.type == self.encoding, answer
        else:
            assert answer.type == f"application/problem+{kind}", answer
            assert answer["status"] == answer.status
        return answer.status, answer.data


class RpcCaller:
    """The same over RPC."""

    def __init__(self, node):
        self.rpc = node.connect()

    def __call__(self, name, /, **fields):
        try:
            result = self.rpc.call(name, **fields)
        except RpcError as error:
            return error.problem["status"], error.problem
        result.pop("position", None)
        return 200, result


@pytest.fixture(params=[f"{node}-{way}" for node in NODES for way in ("json", "msgpack", "rpc")])
def call(request, cluster):
    name, way = request.param.split("-")
    if way == "rpc":
        caller = RpcCaller(cluster[name])
        yield caller
        caller.rpc.close()
    else:
        yield Http(cluster[name], JSON if way == "json" else MSGPACK)


def ok(result):
    status, data = result
    assert status == 200, data
    return data


def refused(result, status, code):
    assert result[0] == status, result
    assert result[1]["code"] == code, result
    assert result[1]["type"] == f"urn:rukun:{code}"
    assert isinstance(result[1]["retryable"], bool)
    assert result[1]["outcome"] in ("not_done", "unknown")
    return result[1]


# Sessions and locks


def test_session(call):
    session = ok(call("session.open", ttl_ms=5000, name="here"))
    assert session["ttl_ms"] == 5000
    assert ok(call("session.keepalive", session=session["session"]))["ok"] is True
    listed = ok(call("session.list", limit=1000))["sessions"]
    assert session["session"] in [line.get("session", line.get("name")) for line in listed]
    assert ok(call("session.close", session=session["session"]))["closed"] is True
    refused(call("session.keepalive", session=session["session"]), 410, "session_expired")


def test_lock_exclusive(call):
    name = unique("lock")
    grant = ok(call("lock.acquire", resource=name, owner="alice", mode="exclusive"))
    assert grant["granted"] is True and grant["lease_ms"] == 30000
    assert 0 < grant["fence"] < 2**53
    problem = refused(call("lock.acquire", resource=name, owner="bob"), 409, "held")
    assert problem["granted"] is False
    assert problem["holders"] == [{"owner": "alice", "mode": "exclusive"}]
    assert 0 < problem["retry_after_ms"] <= 30000
    assert problem["retryable"] is True and problem["outcome"] == "not_done"
    assert ok(call("lock.check", resource=name, owner="alice"))["held"] is True
    assert ok(call("lock.check", resource=name, owner="bob"))["held"] is False
    renewed = ok(call("lock.renew", resource=name, owner="alice", lease_ms=20000))
    assert renewed == {"renewed": True, "lease_ms": 20000}
    refused(call("lock.release", resource=name, owner="bob"), 409, "not_owner")
    refused(call("lock.release", resource=name, owner="alice", fence=1), 409, "not_owner")
    info = ok(call("lock.info", resource=name))
    assert info["resource"] == name and info["waiters"] == []
    holder = info["holders"][0]
    assert holder["owner"] == "alice" and holder["fence"] == grant["fence"]
    assert 0 < holder["lease_left_ms"] <= 20000
    assert ok(call("lock.release", resource=name, owner="alice"))["released"] is True
    refused(call("lock.release", resource=name, owner="alice"), 409, "not_owner")
    again = ok(call("lock.acquire", resource=name, owner="bob", ttl_ms=1000))
    assert again["fence"] > grant["fence"] and again["lease_ms"] == 1000
    assert ok(call("lock.release", resource=name, owner="bob"))["released"] is True


def test_lock_repeat_is_the_same_grant(call):
    name = unique("lock")
    first = ok(call("lock.acquire", resource=name, owner="a"))
    second = ok(call("lock.acquire", resource=name, owner="a"))
    assert first["fence"] == second["fence"]
    ok(call("lock.release", resource=name, owner="a"))
    refused(call("lock.release", resource=name, owner="a"), 409, "not_owner")


def test_lock_shared(call):
    name = unique("lock")
    ok(call("lock.acquire", resource=name, owner="a", mode="shared"))
    ok(call("lock.acquire", resource=name, owner="b", mode="shared"))
    problem = refused(call("lock.acquire", resource=name, owner="c"), 409, "held")
    assert sorted(holder["owner"] for holder in problem["holders"]) == ["a", "b"]
    ok(call("lock.release", resource=name, owner="a"))
    ok(call("lock.release", resource=name, owner="b"))
    ok(call("lock.acquire", resource=name, owner="c"))
    ok(call("lock.release", resource=name, owner="c"))


def test_lock_several(call):
    first, second = unique("lock"), unique("lock")
    wish = [{"resource": first, "mode": "exclusive"}, {"resource": second, "mode": "shared"}]
    grant = ok(call("lock.acquire", resources=wish, owner="a"))
    assert grant["granted"] is True
    refused(call("lock.acquire", resource=first, owner="b"), 409, "held")
    refused(call("lock.acquire", resources=[{"resource": unique("lock")}, {"resource": first}],
                 owner="b"), 409, "held")
    # One grant under one fence: giving back any of it gives back all.
    assert ok(call("lock.release", resource=first, owner="a"))["released"] is True
    assert ok(call("lock.check", resource=second, owner="a"))["held"] is False


def test_lock_with_session(call):
    name = unique("lock")
    session = ok(call("session.open", ttl_ms=5000))["session"]
    ok(call("lock.acquire", resource=name, owner="a", session=session))
    refused(call("lock.acquire", resource=name, owner="b"), 409, "held")
    ok(call("session.close", session=session))
    ok(call("lock.acquire", resource=name, owner="b"))
    ok(call("lock.release", resource=name, owner="b"))
    refused(call("lock.acquire", resource=name, owner="a", session="none-such"), 410,
            "session_expired")


def test_lock_list_graph_break(call):
    stem = unique("listed") + "/"
    for part in ("a", "b", "c"):
        ok(call("lock.acquire", resource=stem + part, owner="o"))

    def names(data):
        return [line.get("resource", line.get("name")) for line in data["locks"]]

    assert names(ok(call("lock.list", prefix=stem))) == [stem + part for part in "abc"]
    page = ok(call("lock.list", prefix=stem, limit=2))
    assert names(page) == [stem + "a", stem + "b"]
    rest = ok(call("lock.list", prefix=stem, limit=2, after=page["after"]))
    assert names(rest) == [stem + "c"]
    assert isinstance(ok(call("lock.graph"))["edges"], list)
    assert ok(call("lock.break", resource=stem + "a"))["released"] is True
    assert ok(call("lock.check", resource=stem + "a", owner="o"))["held"] is False
    refused(call("lock.release", resource=stem + "a", owner="o"), 409, "not_owner")
    for part in ("b", "c"):
        ok(call("lock.release", resource=stem + part, owner="o"))


def test_lock_wait_times_out(call):
    name = unique("lock")
    ok(call("lock.acquire", resource=name, owner="a"))
    began = time.monotonic()
    refused(call("lock.acquire", resource=name, owner="b", wait_ms=300), 409, "wait_timeout")
    assert 0.25 < time.monotonic() - began < 5
    assert ok(call("lock.info", resource=name))["waiters"] == []
    ok(call("lock.release", resource=name, owner="a"))


@pytest.mark.parametrize("at", NODES)
@pytest.mark.parametrize("other", NODES)
def test_lock_wait_is_granted(cluster, at, other):
    """A waiter at one node gets what is released at another."""
    name = unique("lock")
    held = cluster[at].post("/lock/acquire", {"resource": name, "owner": "a"})
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(cluster[other].post(
        "/lock/acquire", {"resource": name, "owner": "b", "wait_ms": 10000})))
    waiter.start()
    wait_until(lambda: cluster[at].post("/lock/info", {"resource": name})["waiters"], 5,
               "the waiter is seen")
    edges = cluster[other].post("/lock/graph", {})["edges"]
    assert {"owner": "b", "resource": name, "by": "a"} in edges
    assert cluster[at].post("/lock/release", {"resource": name, "owner": "a"}).status == 200
    waiter.join(10)
    assert answers[0].status == 200, answers
    assert answers[0]["fence"] > held["fence"]
    assert cluster[at].post("/lock/release", {"resource": name, "owner": "b"}).status == 200


def test_lock_deadlock(cluster):
    """The cycle is found when it forms, also across nodes, and the victim is told it."""
    first, second = unique("lock"), unique("lock")
    with cluster["n1"].connect() as one, cluster["n2"].connect() as two:
        one.call("lock.acquire", resource=first, owner="a")
        two.call("lock.acquire", resource=second, owner="b")
        waiting = one.send("lock.acquire", resource=second, owner="a", wait_ms=10000)
        wait_until(lambda: two.call("lock.info", resource=second)["waiters"], 5, "a waits")
        with pytest.raises(RpcError) as caught:
            two.call("lock.acquire", resource=first, owner="b", wait_ms=10000)
        assert caught.value.code == "deadlock"
        assert {edge["owner"] for edge in caught.value.problem["cycle"]} == {"a", "b"}
        two.call("lock.release", resource=second, owner="b")
        assert one.wait(waiting)["granted"] is True
        one.call("lock.release", resource=first, owner="a")
        one.call("lock.release", resource=second, owner="a")


# Queues


def test_queue_round(call):
    topic = unique("topic")
    assert ok(call("queue.consume", topic=topic, consumer="c")) == {"message": None}
    sent = ok(call("queue.publish", topic=topic, data={"n": [1, 2.5, "ä", None, True]}))
    assert sent["ok"] is True and isinstance(sent["id"], str)
    got = ok(call("queue.consume", topic=topic, consumer="c"))
    assert got["message"] == {"n": [1, 2.5, "ä", None, True]}
    assert got["message_id"] == sent["id"] and got["attempt"] == 1
    assert ok(call("queue.extend", id=got["id"], visibility_ms=20000))["ok"] is True
    assert ok(call("queue.ack", id=got["id"]))["ack"] is True
    assert call("queue.ack", id=got["id"])[0] == 409
    assert ok(call("queue.consume", topic=topic)) == {"message": None}


def test_queue_nack_and_stale(call):
    topic = unique("topic")
    ok(call("queue.publish", topic=topic, data="x"))
    first = ok(call("queue.consume", topic=topic))
    assert ok(call("queue.nack", id=first["id"], delay_ms=0))["ok"] is True
    second = ok(call("queue.consume", topic=topic))
    assert second["attempt"] == 2 and second["message_id"] == first["message_id"]
    assert second["id"] != first["id"]
    refused(call("queue.ack", id=first["id"]), 409, "stale_delivery")
    assert ok(call("queue.ack", id=second["id"]))["ack"] is True


def test_queue_visibility(call):
    topic = unique("topic")
    ok(call("queue.publish", topic=topic, data=1))
    first = ok(call("queue.consume", topic=topic, visibility_ms=200))
    assert ok(call("queue.consume", topic=topic))["message"] is None
    second = ok(call("queue.consume", topic=topic, wait_ms=5000))
    assert second["attempt"] == 2 and second["message"] == 1
    refused(call("queue.ack", id=first["id"]), 409, "stale_delivery")
    ok(call("queue.ack", id=second["id"]))


def test_queue_batch(call):
    topic = unique("topic")
    messages = [{"data": n, "priority": 9 if n == 3 else 0} for n in range(4)]
    ids = ok(call("queue.publish", topic=topic, messages=messages))["ids"]
    assert len(set(ids)) == 4
    got = ok(call("queue.consume", topic=topic, max=10))["messages"]
    assert [message["message"] for message in got] == [3, 0, 1, 2]
    answer = ok(call("queue.ack", ids=[message["id"] for message in got]))
    assert answer["ack"] is True
    assert len(answer["results"]) == 4
    assert ok(call("queue.consume", topic=topic, max=10))["messages"] == []


def test_queue_delay_and_headers(call):
    topic = unique("topic")
    ok(call("queue.publish", topic=topic, data="later", delay_ms=300, headers={"a": "b"}))
    assert ok(call("queue.consume", topic=topic))["message"] is None
    got = ok(call("queue.consume", topic=topic, wait_ms=5000))
    assert got["message"] == "later" and got["headers"] == {"a": "b"}
    ok(call("queue.ack", id=got["id"]))


def test_queue_dead_letters(call):
    topic = unique("topic")
    ok(call("queue.configure", topic=topic, deliveries_max=2, retry_ms=0))
    ok(call("queue.publish", topic=topic, data="bad"))
    for _ in range(2):
        got = ok(call("queue.consume", topic=topic, wait_ms=2000))
        assert got["message"] == "bad"
        ok(call("queue.nack", id=got["id"], delay_ms=0))
    assert ok(call("queue.consume", topic=topic))["message"] is None
    dead = ok(call("queue.consume", topic=topic + "/dead"))
    assert dead["message"] == "bad"
    ok(call("queue.ack", id=dead["id"]))


def test_queue_looks(call):
    topic = unique("topic")
    for n in range(3):
        ok(call("queue.publish", topic=topic, data=n))
    peeked = ok(call("queue.peek", topic=topic))["messages"]
    assert [message["message"] for message in peeked] == [0, 1, 2]
    info = ok(call("queue.info", topic=topic))
    assert info["topic"] == topic and info["ready"] == 3
    stats = ok(call("queue.stats", topic=topic))
    assert stats["ready"] == 3 and stats["published"] == 3
    assert stats["durability"].startswith(DURABILITY)
    listed = ok(call("queue.list", prefix=topic))["topics"]
    assert [line.get("topic", line.get("name")) for line in listed] == [topic]
    assert ok(call("queue.delete", id=peeked[0]["message_id"]))["deleted"] is True
    assert ok(call("queue.pause", topic=topic))["ok"] is True
    paused = call("queue.consume", topic=topic)
    assert paused[0] in (200, 409) and paused[1].get("message") is None
    assert ok(call("queue.resume", topic=topic))["ok"] is True
    assert ok(call("queue.consume", topic=topic))["message"] == 1
    assert ok(call("queue.purge", topic=topic))["ok"] is True
    assert ok(call("queue.consume", topic=topic))["message"] is None


def test_queue_publish_id(call):
    topic = unique("topic")
    first = ok(call("queue.publish", topic=topic, data=1, publish_id="p"))
    second = ok(call("queue.publish", topic=topic, data=2, publish_id="p"))
    assert first["id"] == second["id"]
    assert ok(call("queue.stats", topic=topic))["ready"] == 1


@pytest.mark.parametrize("at", NODES)
@pytest.mark.parametrize("other", NODES)
def test_queue_long_poll(cluster, at, other):
    topic = unique("topic")
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(
        cluster[other].post("/queue/consume", {"topic": topic, "wait_ms": 10000})))
    waiter.start()
    time.sleep(0.1)
    began = time.monotonic()
    cluster[at].post("/queue/publish", {"topic": topic, "data": "now"})
    waiter.join(10)
    assert answers[0]["message"] == "now"
    assert time.monotonic() - began < 2
    assert cluster[at].post("/queue/ack", {"id": answers[0]["id"]}).status == 200


# Caches


def test_cache_round(call):
    key = unique("key")
    assert ok(call("cache.get", k=key))["found"] is False
    put = ok(call("cache.put", k=key, v={"a": 1}))
    assert put["ok"] is True and put["version"] > 0
    got = ok(call("cache.get", k=key))
    assert got["found"] is True and got["value"] == {"a": 1}
    assert got["version"] == put["version"]
    newer = ok(call("cache.put", key=key, value=None, ttl_ms=60000))
    assert newer["version"] > put["version"]
    assert ok(call("cache.get", key=key))["value"] is None
    assert ok(call("cache.touch", key=key, ttl_ms=60000))["touched"] is True
    assert ok(call("cache.delete", key=key))["deleted"] is True
    assert ok(call("cache.delete", key=key))["deleted"] is False
    assert ok(call("cache.get", key=key))["found"] is False


def test_cache_conditions(call):
    key = unique("key")
    first = ok(call("cache.put", key=key, value=1, if_absent=True))
    assert call("cache.put", key=key, value=2, if_absent=True)[0] in (409, 412)
    refused(call("cache.put", key=key, value=2, if_version=first["version"] + 1), 412,
            "version_mismatch")
    second = ok(call("cache.put", key=key, value=2, if_version=first["version"]))
    refused(call("cache.delete", key=key, if_version=first["version"]), 412,
            "version_mismatch")
    assert ok(call("cache.delete", key=key, if_version=second["version"]))["deleted"] is True


def test_cache_add(call):
    key = unique("key")
    assert ok(call("cache.add", key=key, delta=5, initial=10))["value"] == 15
    assert ok(call("cache.add", key=key, delta=-20))["value"] == -5
    assert ok(call("cache.get", key=key))["value"] == -5


def test_cache_ttl(call):
    key = unique("key")
    ok(call("cache.put", key=key, value=1, ttl_ms=300))
    assert ok(call("cache.get", key=key))["found"] is True
    wait_until(lambda: ok(call("cache.get", key=key))["found"] is False, 5, "the entry expires")


def test_cache_bulk(call):
    """Keys of many groups in one call; the order is the caller's."""
    stem = unique("bulk")
    keys = [f"{stem}-{n}" for n in range(40)]
    for key in keys[::2]:
        ok(call("cache.put", key=key, value=key))
    entries = ok(call("cache.get", keys=keys))["entries"]
    assert [entry["key"] for entry in entries] == keys
    assert [entry["found"] for entry in entries] == [n % 2 == 0 for n in range(40)]
    assert entries[0]["value"] == keys[0]
    results = ok(call("cache.delete", keys=keys))["results"]
    assert [line["key"] for line in results] == keys
    assert [line["deleted"] for line in results] == [n % 2 == 0 for n in range(40)]


def test_cache_named(call):
    cache, key = unique("cache"), unique("key")
    if ENGINE == "embedded":
        ok(call("cache.configure", cache=cache, bytes_max=1 << 20))
    else:
        refused(call("cache.configure", cache=cache, bytes_max=1 << 20), 501, "unsupported")
        ok(call("cache.configure", cache=cache, ttl_ms=60000))
    ok(call("cache.put", cache=cache, key=key, value=1))
    assert ok(call("cache.get", key=key))["found"] is False
    assert ok(call("cache.get", cache=cache, key=key))["found"] is True
    # A walk over a Redis Cluster misses what goes from one master to another under it.
    tries = 5 if ENGINE == "redis-cluster" else 1
    stats = [ok(call("cache.stats", cache=cache)) for _ in range(tries)]
    assert 1 in (one["entries"] for one in stats)
    assert all(one["durability"].startswith(DURABILITY) for one in stats)

    assert ok(call("cache.invalidate", cache=cache))["ok"] is True
    assert ok(call("cache.get", cache=cache, key=key))["found"] is False


def test_cache_fence(call):
    key = unique("key")
    ok(call("cache.put", key=key, value=1, fence=10, fence_name="l"))
    refused(call("cache.put", key=key, value=2, fence=9, fence_name="l"), 409, "stale_fence")
    assert ok(call("cache.get", key=key))["value"] == 1


# Cluster


def test_cluster_info(call, cluster):
    info = ok(call("cluster.info"))
    assert [node["name"] for node in info["nodes"]] == NODES
    assert all(node["up"] for node in info["nodes"])
    assert info["nodes"][0]["http"] == cluster["n1"].http
    assert info["slots"][0][0] == 0 and info["slots"][-1][1] == 4095
    assert {group["leader"] for group in info["groups"]} <= set(NODES)
