"""What is around an operation: encodings, request ids, positions, forwarding, pipelining."""

import base64
import itertools
import json

import msgpack
import pytest

from rukun_cluster import ENGINE, JSON, MSGPACK, RAW, RpcError, wait_until

NODES = ["n1", "n2", "n3"]
counter = itertools.count(1)


def unique(stem):
    return f"{stem}-{next(counter)}"


# Encodings: what is published in one is consumed in another.

VALUE = {"text": "ä\u0000", "list": [1, -2, 3.5, True, None], "big": 2**53 - 1}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("out", ["json", "msgpack", "raw"])
@pytest.mark.parametrize("into", ["json", "msgpack", "raw"])
def test_encoding_matrix(cluster, node, into, out):
    at = cluster[node]
    topic, key = unique("matrix"), unique("matrix")
    encodings = {"json": JSON, "msgpack": MSGPACK}
    raw = b"\x00\xff raw"
    if into == "raw":
        assert at.request("POST", f"/raw/queue/{topic}", raw).status == 200
        assert at.request("PUT", f"/raw/cache/-/{key}", raw).status == 200
    else:
        kind = encodings[into]
        assert at.post("/queue/publish", {"topic": topic, "data": VALUE}, kind).status == 200
        assert at.post("/cache/put", {"k": key, "v": VALUE}, kind).status == 200
    if out == "raw":
        message = at.get(f"/raw/queue/{topic}")
        entry = at.get(f"/raw/cache/-/{key}")
        assert message.status == 200 and entry.status == 200
        assert message.body == entry.body
        assert entry.headers["Rukun-Version"].isdigit()
        if into == "raw":
            assert message.body == raw and message.type == RAW
        else:
            assert message.type == encodings[into] and message.data == VALUE
        delivery = message.headers["Rukun-Id"]
        assert at.request("DELETE", f"/raw/queue/{topic}?id={delivery}")["ack"] is True
        return
    message = at.post("/queue/consume", {"topic": topic}, encodings[out])
    entry = at.post("/cache/get", {"k": key}, encodings[out])
    assert message.status == 200 and entry.status == 200
    assert message.type == encodings[out]
    if into == "raw" and out == "json":
        assert base64.b64decode(message["message_base64"]) == raw
        assert base64.b64decode(entry["value_base64"]) == raw
    elif into == "raw":
        assert message["message"] == raw and entry["value"] == raw
    else:
        assert message["message"] == VALUE and entry["value"] == VALUE
    assert at.post("/queue/ack", {"id": message["id"]}, encodings[out])["ack"] is True


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("asked", [JSON, MSGPACK, "application/msgpack", "application/x-msgpack"])
@pytest.mark.parametrize("accept", [None, JSON, MSGPACK, "application/x-msgpack"])
def test_answer_by_accept(cluster, node, asked, accept):
    fields = {"k": unique("key")}
    body = json.dumps(fields).encode() if asked == JSON else msgpack.packb(fields)
    headers = {"Content-Type": asked}
    if accept:
        headers["Accept"] = accept
    answer = cluster[node].request("POST", "/cache/get", body, headers)
    assert answer.status == 200
    assert answer.type == (accept or asked) or accept is None
    assert (answer.type == JSON) == ((accept or asked) == JSON)
    assert answer["found"] is False


def test_not_convertible_names_the_place(cluster):
    """A msgpack map with a binary inside has no JSON form."""
    key = unique("key")
    assert cluster["n1"].post("/cache/put", {"k": key, "v": {"a": [1, b"\xff\xfe"]}},
                              MSGPACK).status == 200
    answer = cluster["n2"].post("/cache/get", {"k": key})
    assert answer.status == 406 and answer["code"] == "not_acceptable"
    assert "a" in json.dumps(answer.data)
    assert cluster["n2"].post("/cache/get", {"k": key}, MSGPACK)["value"] == {
        "a": [1, b"\xff\xfe"]}
    with cluster["n3"].connect() as rpc:
        assert rpc.call("cache.get", key=key)["value"] == {"a": [1, b"\xff\xfe"]}


# Calls: request ids, positions, forwarding.


@pytest.mark.parametrize("node", NODES)
def test_idempotency_key(cluster, node):
    """A retry, at any node, gives the first answer and does nothing."""
    topic = unique("topic")
    key = {"Idempotency-Key": unique("request")}
    ids = [at.post("/queue/publish", {"topic": topic, "data": 1}, headers=key)["id"]
           for at in cluster]
    assert len(set(ids)) == 1
    assert cluster[node].post("/queue/stats", {"topic": topic})["published"] == 1
    key = {"Idempotency-Key": "x" * 300 + unique("long")}
    ids = [at.post("/queue/publish", {"topic": topic, "data": 2}, headers=key)["id"]
           for at in cluster]
    assert len(set(ids)) == 1
    key = {"Idempotency-Key": unique("client") + "/1"}
    adds = [at.post("/cache/add", {"key": topic, "delta": 1}, headers=key)["value"]
            for at in cluster]
    assert adds == [1, 1, 1]


def test_client_and_seq(cluster):
    topic, client = unique("topic"), unique("client")
    with cluster["n1"].connect() as one, cluster["n2"].connect() as two:
        first = one.call("queue.publish", topic=topic, data=1, client=client, seq=1,
                         first_unanswered=1)
        again = two.call("queue.publish", topic=topic, data=1, client=client, seq=1,
                         first_unanswered=1)
        assert first["id"] == again["id"]
        with pytest.raises(RpcError) as caught:
            two.call("queue.publish", topic=topic, data=1, client=client)
        assert caught.value.code == "invalid" and "seq" in str(caught.value.problem)


def test_position_travels(cluster):
    """A read with a position is never older, on any node."""
    key = unique("key")
    for n in range(100):
        put = cluster.nodes[n % 3].post("/cache/put", {"k": key, "v": n})
        position = put.headers["Rukun-Position"]
        got = cluster.nodes[(n + 1) % 3].post("/cache/get", {"k": key},
                                              headers={"Rukun-Position": position})
        assert got["value"] == n
    history, rest = position.split(":")
    assert history == cluster["n3"].map()["history"]
    group, index = rest.split("=")
    ahead = f"{history}:{group}={int(index) + 10**9}"
    answer = cluster["n1"].post("/cache/get", {"k": key}, headers={"Rukun-Position": ahead})
    if ENGINE == "embedded":
        assert answer.status == 422 and answer["code"] == "out_of_bounds"
    else:  # a position is a time of Redis there, and clocks differ: Redis is asked
        assert answer.status == 200 and answer["value"] == 99
    other = f"{int(history, 16) ^ 1:x}:{group}={int(index) + 10**9}"
    answer = cluster["n1"].post("/cache/get", {"k": key}, headers={"Rukun-Position": other})
    assert answer.status == 200 and answer["value"] == 99


def test_not_forwarded_when_asked(cluster):
    leader = cluster.leader(0)
    fields = {"resource": unique("lock"), "owner": "o"}
    for node in cluster:
        answer = node.post("/lock/acquire", fields, headers={"Rukun-Forward": "off"})
        if node is leader:
            assert answer.status == 200
        else:
            assert answer.status == 421 and answer["code"] == "not_leader"
            assert answer["leader"] == leader.http
            assert answer["outcome"] == "not_done"
            with node.connect() as rpc, pytest.raises(RpcError) as caught:
                rpc.call("lock.acquire", forward=False, **fields)
            assert caught.value.problem["leader"] == leader.rpc


def test_rpc_out_of_order(cluster):
    """A wait does not hold up what comes after it on the connection."""
    name = unique("lock")
    with cluster["n1"].connect() as rpc:
        rpc.call("lock.acquire", resource=name, owner="a")
        waiting = rpc.send("lock.acquire", resource=name, owner="b", wait_ms=10000)
        assert rpc.call("cache.get", key="nothing")["found"] is False
        rpc.call("lock.release", resource=name, owner="a")
        assert rpc.wait(waiting)["granted"] is True
        rpc.call("lock.release", resource=name, owner="b")


def test_rpc_pipeline(cluster):
    with cluster["n2"].connect() as rpc:
        stem = unique("pipe")
        numbers = [rpc.send("cache.put", key=f"{stem}-{n}", value=n) for n in range(500)]
        assert all(rpc.wait(number)["ok"] for number in numbers)
        numbers = [rpc.send("cache.get", key=f"{stem}-{n}") for n in range(500)]
        assert [rpc.wait(number)["value"] for number in numbers] == list(range(500))


def test_rpc_notification(cluster):
    key = unique("key")
    with cluster["n3"].connect() as rpc:
        rpc.notify("cache.put", key=key, value=1)
        wait_until(lambda: rpc.call("cache.get", key=key)["found"], 5, "the put is done")


def test_rpc_hello(cluster):
    with cluster["n1"].connect() as rpc:
        assert rpc.hello["node"] == "n1" and rpc.hello["protocol"] == 1
        assert [node["name"] for node in rpc.hello["nodes"]] == NODES
        assert rpc.hello["slots"][-1][1] == 4095


def test_rpc_position(cluster):
    key = unique("key")
    with cluster["n1"].connect() as one, cluster["n2"].connect() as two:
        put = one.call("cache.put", key=key, value="v")
        assert ":" in put["position"]
        assert two.call("cache.get", key=key, position=put["position"])["value"] == "v"
