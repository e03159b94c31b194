"""Input that is wrong: a problem document that names the field, and the node stays up."""

import json
import shutil
import socket
import subprocess
import threading
import time

import msgpack
import pytest

from rukun_cluster import JSON, MSGPACK, SLOW, RpcError, wait_until

NODES = ["n1", "n2", "n3"]


@pytest.fixture(autouse=True, scope="module")
def stays_up(cluster):
    """Whatever a test here does, the same processes answer afterwards."""
    pids = [node.process.pid for node in cluster]
    yield
    assert [node.process.pid for node in cluster] == pids
    for node in cluster:
        assert node.is_running, node.log_text()[-3000:]
        assert node.is_ready()


def problem(answer, status, code, field=None):
    assert answer.status == status, answer
    assert answer.type in ("application/problem+json", "application/problem+msgpack"), answer
    data = answer.data
    assert data["status"] == status and data["code"] == code, answer
    assert data["type"] == f"urn:rukun:{code}" and data["title"], answer
    if field is not None:
        assert field in (data.get("field") or "") or field in data["detail"], answer
    return data


MALFORMED_JSON = [
    b"", b"{", b"}", b"nothing", b"[]", b"1", b"null", b'"x"', b"{\"resource\":}",
    b'{"resource":"a","owner":"b"', b'{"resource":"a","owner":"b"}}',
    b'{"resource":"a","resource":"b","owner":"c"}',  # a key twice
    b'{"resource":"a","owner":"\xff\xfe"}',          # not UTF-8
    b'{"resource":"a","owner":"b\\u0000c"}',         # NUL
    b"[" * 5000, b'{"a":' * 5000, b"\x00" * 100,
]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("body", MALFORMED_JSON, ids=range(len(MALFORMED_JSON)))
def test_malformed_json(cluster, node, body):
    answer = cluster[node].request("POST", "/lock/acquire", body, {"Content-Type": JSON})
    assert answer.status in (400, 422), answer
    problem(answer, answer.status, "invalid" if answer.status == 400 else "out_of_bounds")


PACKED = msgpack.packb({"resource": "a", "owner": "b", "wait_ms": 0})
MALFORMED_MSGPACK = [
    b"", b"\xc1", b"\xdd\x0f\xff\xff\xff", b"\xdf\x0f\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\x81\xa8resource\xdd\x0f\xff\xff\xff", b"\x90", b"\x01",
    b"\x81\x01\x02", PACKED + b"\x00", b"\x91" * 5000, b"\x81\xa1a" * 5000,
    b"\x82\xa8resource\xa1a\xa8resource\xa1b", b"\x82\xa8resource\xa1\xff\xa5owner\xa1b",
]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("body", MALFORMED_MSGPACK, ids=range(len(MALFORMED_MSGPACK)))
def test_malformed_msgpack(cluster, node, body):
    answer = cluster[node].request("POST", "/lock/acquire", body, {"Content-Type": MSGPACK})
    assert answer.status in (400, 422), answer
    assert answer.type == "application/problem+msgpack"
    problem(answer, answer.status, "invalid" if answer.status == 400 else "out_of_bounds")


@pytest.mark.parametrize("size", range(len(PACKED)))
def test_truncated_msgpack(cluster, size):
    answer = cluster["n1"].request("POST", "/lock/acquire", PACKED[:size],
                                   {"Content-Type": MSGPACK})
    problem(answer, 400, "invalid")


WRONG_FIELDS = [
    ("/lock/acquire", {"resource": 1, "owner": "o"}, 400, "resource"),
    ("/lock/acquire", {"resource": ["a"], "owner": "o"}, 400, "resource"),
    ("/lock/acquire", {"resource": None, "owner": "o"}, 400, "resource"),
    ("/lock/acquire", {"owner": "o"}, 400, "resource"),
    ("/lock/acquire", {"resource": "a"}, 400, "owner"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "mode": "greedy"}, 422, "mode"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "wait_ms": "1"}, 400, "wait_ms"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "wait_ms": 1.5}, 400, "wait_ms"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "wait_ms": -1}, 422, "wait_ms"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "wait_ms": 60001}, 422, "wait_ms"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "lease_ms": 1}, 422, "lease_ms"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "lease_ms": 2**63 - 1}, 422, "lease_ms"),
    ("/lock/acquire", {"resource": "a", "owner": "o", "nonsense": 1}, 400, "nonsense"),
    ("/lock/acquire", {"resource": "", "owner": "o"}, 422, "resource"),
    ("/lock/acquire", {"resource": "r" * 513, "owner": "o"}, 422, "resource"),
    ("/lock/acquire", {"resource": "ä" * 257, "owner": "o"}, 422, "resource"),
    ("/lock/acquire", {"resources": [], "owner": "o"}, 422, "resources"),
    ("/lock/acquire", {"resources": [{"resource": "a"}] * 2, "owner": "o"}, 400, "resource"),
    ("/lock/acquire", {"resources": [{"resource": f"r{n}"} for n in range(1001)],
                       "owner": "o"}, 422, "resources"),
    ("/queue/publish", {"topic": "t"}, 400, "data"),
    ("/queue/publish", {"topic": "t" * 513, "data": 1}, 422, "topic"),
    ("/queue/publish", {"topic": "t", "data": 1, "priority": 10}, 422, "priority"),
    ("/queue/publish", {"topic": "t", "messages": [{"data": 1}, {"data": 1, "priority": 11}]},
     422, "priority"),
    ("/queue/publish", {"topic": "t", "messages": "many"}, 400, "messages"),
    ("/queue/consume", {"topic": "t", "max": 0}, 422, "max"),
    ("/queue/consume", {"topic": "t", "max": 1001}, 422, "max"),
    ("/queue/ack", {}, 400, "id"),
    ("/queue/ack", {"id": "nonsense"}, None, "id"),
    ("/queue/ack", {"ids": ["nonsense"] * 1001}, 422, "ids"),
    ("/cache/put", {"k": "a"}, 400, "value"),
    ("/cache/put", {"v": 1}, 400, "key"),
    ("/cache/put", {"k": "k" * 513, "v": 1}, 422, "key"),
    ("/cache/get", {}, 400, "key"),
    ("/cache/get", {"k": "a", "keys": ["a"]}, 400, "key"),
    ("/cache/get", {"k": "a", "consistency": "strong"}, 422, "consistency"),
    ("/cache/add", {"k": "a", "delta": "1"}, 400, "delta"),
    ("/session/keepalive", {"session": 7}, 400, "session"),
]


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
@pytest.mark.parametrize("path,fields,status,field", WRONG_FIELDS,
                         ids=[f"{row[0]}-{n}" for n, row in enumerate(WRONG_FIELDS)])
def test_wrong_field(cluster, path, fields, status, field, encoding):
    for node in cluster:
        answer = node.post(path, fields, encoding)
        assert 400 <= answer.status < 500
        problem(answer, status or answer.status, answer["code"], field)


@pytest.mark.parametrize("path,fields,status,field", WRONG_FIELDS[:20:3])
def test_wrong_field_rpc(cluster, path, fields, status, field):
    if fields.get("wait_ms") == 60001:
        pytest.skip("a bound of HTTP only")
    with cluster["n2"].connect() as rpc:
        with pytest.raises(RpcError) as caught:
            rpc.call(path[1:].replace("/", "."), **fields)
        assert caught.value.problem["status"] == status
        assert field in str(caught.value.problem)
        assert rpc.call("cache.get", key="still there")["found"] is False


def test_value_too_large(cluster):
    answer = cluster["n1"].post("/cache/put", {"k": "large", "v": "x" * (1 << 20)})
    problem(answer, 413, "too_large", "value")
    answer = cluster["n1"].post("/cache/put", {"k": "large", "v": "x" * ((1 << 20) - 2)})
    assert answer.status == 200, answer
    messages = [{"data": "small"}, {"data": "x" * (1 << 20)}]
    answer = cluster["n2"].post("/queue/publish", {"topic": "large", "messages": messages})
    problem(answer, 413, "too_large", "messages[1].data")
    assert cluster["n3"].post("/queue/consume", {"topic": "large"})["message"] is None


@pytest.mark.embedded("what a call brings need not fit into an entry of a log there")
@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
def test_items_too_large_together(cluster, encoding):
    """Each message is allowed, but all of them are more than one entry of the log."""
    messages = [{"data": "x" * 1000000}] * 5
    for node in cluster:
        answer = node.post("/queue/publish", {"topic": "heavy", "messages": messages}, encoding)
        problem(answer, 413, "too_large", "messages")
        assert node.post("/queue/publish", {"topic": "heavy", "messages": messages[:4]},
                         encoding).status == 200
    with cluster["n1"].connect() as rpc:
        with pytest.raises(RpcError) as caught:
            rpc.call("queue.publish", topic="heavy", messages=messages)
        assert caught.value.problem["status"] == 413
    for _ in range(12):
        job = cluster["n2"].post("/queue/consume", {"topic": "heavy"})
        assert len(job["message"]) == 1000000
        assert cluster["n2"].post("/queue/ack", {"id": job["id"]})["ack"] is True
    assert cluster["n3"].post("/queue/consume", {"topic": "heavy"})["message"] is None


def test_value_bound_is_a_setting(fresh):
    """Up to 3 MiB, at each node as it is set; what one node took all of them hold."""
    cluster = fresh(start=False)
    for node, bound in zip(cluster, [3 << 20, 3 << 20, 1024]):
        node.extra = ["--max-value-bytes", str(bound)]
    cluster.start()
    cluster.wait_ready()
    largest = "x" * ((3 << 20) - 2)
    for node in "n1", "n2":
        at = cluster[node]
        problem(at.post("/cache/put", {"k": "large", "v": largest + "x"}), 413, "too_large",
                "value")
        assert at.post("/cache/put", {"k": "large", "v": largest}).status == 200
        assert at.post("/queue/publish", {"topic": "large", "data": largest}).status == 200
    refusal = problem(cluster["n3"].post("/cache/put", {"k": "a", "v": "x" * 1024}), 413,
                      "too_large", "value")
    assert "allowed are 1024" in refusal["detail"]
    assert cluster["n3"].post("/cache/get", {"k": "large"})["value"] == largest
    for _ in range(2):
        job = cluster["n3"].post("/queue/consume", {"topic": "large"})
        assert job["message"] == largest
        assert cluster["n3"].post("/queue/ack", {"id": job["id"]})["ack"] is True


@pytest.mark.parametrize("node", NODES)
def test_unknown_path_and_method(cluster, node):
    at = cluster[node]
    problem(at.request("POST", "/lock/nothing", b"{}", {"Content-Type": JSON}), 404, "not_found")
    problem(at.get("/nothing"), 404, "not_found")
    problem(at.get("/internal/due"), 404, "not_found")
    problem(at.request("POST", "/internal/birth", b"{}", {"Content-Type": JSON}), 404,
            "not_found")
    problem(at.request("POST", "/call/cancel", b"{}", {"Content-Type": JSON}), 404, "not_found")
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE"):
        answer = at.request(method, "/lock/acquire")
        assert answer.status == 405, answer
        assert answer.headers["Allow"] == "POST"
        if method != "HEAD":
            problem(answer, 405, "method_not_allowed")
    answer = at.request("POST", "/health", b"{}")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD"
    problem(at.request("BREW", "/lock/acquire"), 405, "method_not_allowed")


def test_media_types(cluster):
    at = cluster["n1"]
    body = b'{"k":"a"}'
    for kind in (None, "application/x-www-form-urlencoded"):
        headers = {"Content-Type": kind} if kind else {}
        assert at.request("POST", "/cache/get", body, headers).status == 200
        headers["Origin"] = "http://evil.example"
        problem(at.request("POST", "/cache/get", body, headers), 415, "unsupported_media")
    for kind in ("text/plain", "text/xml", "application/octet-stream"):
        problem(at.request("POST", "/cache/get", body, {"Content-Type": kind}), 415,
                "unsupported_media", "Content-Type")
    problem(at.request("POST", "/cache/get", body, {"Content-Type": JSON, "Accept": "text/html"}),
            406, "not_acceptable", "Accept")
    assert at.request("POST", "/v1/cache/get", body, {"Content-Type": JSON}).status == 200
    problem(at.request("PUT", "/raw/cache/-/a", b"x", {"Origin": "http://evil.example"}), 403,
            "forbidden")


def test_bad_headers(cluster):
    at = cluster["n1"]
    for name, value, status in [("Rukun-Deadline-Ms", "soon", 422), ("Rukun-Deadline-Ms", "0", 422),
                                ("Rukun-Deadline-Ms", "600001", 422),
                                ("Rukun-Position", "here", 400), ("Rukun-Forward", "maybe", 400),
                                ("Idempotency-Key", "x" * 600, 422)]:
        answer = at.post("/cache/get", {"k": "a"}, headers={name: value})
        assert answer.status == status, (name, answer)
        problem(answer, status, answer["code"], name)


def test_raw_paths(cluster):
    at = cluster["n3"]
    problem(at.get("/raw/cache/-/absent"), 404, "not_found")
    problem(at.get("/raw/cache/x"), 404, "not_found")
    problem(at.get("/raw/nothing/x"), 404, "not_found")
    problem(at.get("/raw/cache/-/" + "k" * 513), 422, "out_of_bounds", "key")
    problem(at.request("PUT", "/raw/cache/-/%zz", b"x"), 400, "invalid")
    problem(at.request("PATCH", "/raw/cache/-/a", b"x"), 405, "method_not_allowed")
    problem(at.get("/raw/queue/t?wait_ms=soon"), 400, "invalid", "wait_ms")
    problem(at.request("PUT", "/raw/cache/-/a", b"x", {"Rukun-Ttl-Ms": "x"}), 400, "invalid",
            "Rukun-Ttl-Ms")
    assert at.get("/raw/queue/raw-empty").status == 204
    assert at.request("PUT", "/raw/cache/-/a%2Fb%20c/d", b"x").status == 200
    assert at.post("/cache/get", {"k": "a/b c/d"}, MSGPACK)["value"] == b"x"
    version = at.get("/raw/cache/-/a%2Fb%20c/d").headers["ETag"]
    put = at.request("PUT", "/raw/cache/-/a%2Fb%20c/d", b"y", {"If-Match": '"1"'})
    problem(put, 412, "version_mismatch")
    assert at.request("PUT", "/raw/cache/-/a%2Fb%20c/d", b"y", {"If-Match": version}).status == 200
    assert at.request("DELETE", "/raw/cache/-/a%2Fb%20c/d")["deleted"] is True


# Below HTTP's own rules.


def talk(node, data, address=None, timeout=10):
    """What a node answers to bytes on a socket, until it closes."""
    host, port = (address or node.http).rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout) as sock:
        answer = b""
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # cut off while sending; what was answered is still there
        try:
            while True:
                part = sock.recv(1 << 16)
                if not part:
                    return answer
                answer += part
        except (ConnectionResetError, TimeoutError):
            return answer


def parts(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.decode().lower(), body


@pytest.mark.parametrize("node", NODES)
def test_gigabyte_is_refused_unread(cluster, node):
    began = time.monotonic()
    answer = talk(cluster[node], b"POST /cache/put HTTP/1.1\r\nHost: x\r\nContent-Type: "
                  b"application/json\r\nContent-Length: 1073741824\r\n\r\n{\"k\":")
    status, head, body = parts(answer)
    assert status == 413 and "connection: close" in head
    assert "application/problem+json" in head
    assert json.loads(body)["code"] == "too_large"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("data,status", [
    (b"POST /cache/put HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /cache/put HTTP/1.1\r\nHost: x\r\nContent-Length: 1e9\r\n\r\n", 400),
    (b"POST /cache/put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    (b"POST /cache/put HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
     b"Content-Length: 1073741824\r\n\r\n", 413),
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/9.x\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 400),
    (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n", 400),
])
def test_malformed_http(cluster, data, status):
    code, head, body = parts(talk(cluster["n1"], data))
    assert code in (status, 400), head
    assert "application/problem+json" in head and "connection: close" in head
    assert json.loads(body)["status"] == code


def test_chunked_body_is_bounded(cluster):
    head = b"POST /cache/put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    code, _, _ = parts(talk(cluster["n1"], head + b"40000000\r\n" + b"x" * 100000))
    assert code in (400, 413)
    body = b'{"k":"a"}'
    answer = talk(cluster["n1"], b"POST /cache/get HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                  b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                  b"4\r\n" + body[:4] + b"\r\n5\r\n" + body[4:] + b"\r\n0\r\n\r\n")
    assert parts(answer)[0] == 200


def test_pipelined_http(cluster):
    """Requests in one packet, also behind one that waits."""
    body = b'{"topic":"pipelined","wait_ms":200}'
    one = (b"POST /queue/consume HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
           b"Content-Length: %d\r\n\r\n" % len(body) + body)
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = talk(cluster["n1"], one + one + last)
    assert answer.count(b"HTTP/1.1 200") == 3
    # What follows a body that is too short is a method nobody knows.
    answer = talk(cluster["n1"], one + b"}" + last)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.count(b"application/problem+json") == 1 and b"<HTML>" not in answer


@pytest.mark.parametrize("data", [
    b"\xdd\x0f\xff\xff\xff", b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x94\x01\x02\xc0\xc0",
    b"\x93\x00\x01\xa1x", b"\x94\x00\x01\xa5hello\x91\x81\xa8protocol\x02",
    b"\x94\x00\x01\xabcluster.info\x91\x80",
])
def test_malformed_rpc(cluster, data):
    """Whoever does not speak RPC, or not hello first, is told and cut off."""
    if data == b"\xdd\x0f\xff\xff\xff":  # not complete yet, and never stored
        data += b"\xc0" * (9 << 20)
    answer = talk(cluster["n2"], data, cluster["n2"].rpc)
    message = msgpack.unpackb(answer, raw=False)
    assert message[0] == 1 and message[3] is None
    assert message[2]["code"] in ("invalid", "protocol", "too_large")


def test_rpc_unknown_call(cluster):
    with cluster["n1"].connect() as rpc:
        for name in ("lock.steal", "internal.due", "call.cancel", "", "x" * 5000):
            with pytest.raises(RpcError) as caught:
                rpc.call(name)
            assert caught.value.code == "not_found"
        assert rpc.call("cache.get", key="a")["found"] is False


# Clients that leave.


@pytest.mark.parametrize("at", NODES)
def test_abandoned_http_wait_is_never_granted(cluster, at):
    node = cluster[at]
    name = f"abandoned-{at}"
    node.post("/lock/acquire", {"resource": name, "owner": "a"})
    body = json.dumps({"resource": name, "owner": "ghost", "wait_ms": 30000}).encode()
    host, port = node.http.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)))
    sock.sendall(b"POST /lock/acquire HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n" % len(body) + body)
    wait_until(lambda: node.post("/lock/info", {"resource": name})["waiters"], 5, "it waits")
    sock.close()
    wait_until(lambda: not node.post("/lock/info", {"resource": name})["waiters"], 5,
               "the wait is cancelled")
    assert node.post("/lock/release", {"resource": name, "owner": "a"}).status == 200
    for other in cluster:
        assert other.post("/lock/check", {"resource": name, "owner": "ghost"})["held"] is False
        assert other.post("/lock/info", {"resource": name})["holders"] == []


@pytest.mark.parametrize("at", NODES)
def test_abandoned_rpc_wait_is_never_granted(cluster, at):
    name = f"abandoned-rpc-{at}"
    with cluster["n1"].connect() as holder:
        holder.call("lock.acquire", resource=name, owner="a")
        ghost = cluster[at].connect()
        ghost.send("lock.acquire", resource=name, owner="ghost", wait_ms=30000)
        wait_until(lambda: holder.call("lock.info", resource=name)["waiters"], 5, "it waits")
        ghost.close()
        wait_until(lambda: not holder.call("lock.info", resource=name)["waiters"], 5,
                   "the wait is cancelled")
        holder.call("lock.release", resource=name, owner="a")
        assert holder.call("lock.info", resource=name)["holders"] == []


@pytest.mark.parametrize("way", ["http", "rpc"])
@pytest.mark.parametrize("at", NODES)
def test_abandoned_consume_takes_nothing(cluster, at, way):
    topic = f"abandoned-{way}-{at}"
    node = cluster[at]
    if way == "rpc":
        ghost = node.connect()
        ghost.send("queue.consume", topic=topic, wait_ms=30000)
        time.sleep(0.3)
        ghost.close()
    else:
        body = json.dumps({"topic": topic, "wait_ms": 30000}).encode()
        host, port = node.http.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"POST /queue/consume HTTP/1.1\r\nHost: x\r\nContent-Type: "
                         b"application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.3)
    time.sleep(0.3)
    assert node.post("/queue/publish", {"topic": topic, "data": 1}).status == 200
    got = node.post("/queue/consume", {"topic": topic, "wait_ms": 3000})
    assert got["message"] == 1 and got["attempt"] == 1


def test_many_waits_on_one_connection(cluster):
    topic = "many-waits"
    with cluster["n3"].connect() as rpc:
        numbers = [rpc.send("queue.consume", topic=topic, wait_ms=20000) for _ in range(300)]
        time.sleep(0.3)
        for n in range(300):
            rpc.call("queue.publish", topic=topic, data=n)
        got = [rpc.wait(number)["message"] for number in numbers]
        assert sorted(got) == list(range(300))


def test_slow_reader_is_bounded(cluster):
    """A client that sends and never reads does not fill the node's memory."""
    node = cluster["n1"]
    node.post("/cache/put", {"k": "large-answer", "v": "x" * 500000})
    before = node.metric("process_resident_memory_bytes")
    rpc = node.connect()
    request = msgpack.packb([0, 7, "cache.get", [{"key": "large-answer"}]])
    rpc.sock.settimeout(2)
    try:
        for _ in range(2000):
            rpc.sock.sendall(request * 10)
    except (TimeoutError, OSError):
        pass
    after = node.metric("process_resident_memory_bytes")
    rpc.close()
    assert after - before < (300 << 20) * SLOW  # sanitizers keep what is freed
    wait_until(node.is_ready, 5, "the node is ready")


# What a node tells.


@pytest.mark.parametrize("node", NODES)
def test_pages(cluster, node):
    at = cluster[node]
    for path in ("/health", "/livez", "/readyz"):
        answer = at.get(path)
        assert answer.status == 200 and answer["status"] == "ok" and answer["node"] == node
    state = at.get("/raft/state").data
    assert state["node"] == node and state["role"] in ("leader", "follower")
    assert state["leader"] in NODES and state["term"] >= 1
    assert state["applied"] <= state["commit"]
    assert [group["id"] for group in state["groups"]] == list(range(len(state["groups"])))
    info = at.get("/cluster", accept=MSGPACK)
    assert info.type == MSGPACK and info["nodes"][0]["name"] == "n1"
    slots = [group for first, last, group in at.map()["slots"] for _ in range(first, last + 1)]
    assert len(slots) == 4096 and 0 not in slots
    openapi = at.get("/openapi.json").data
    assert openapi["openapi"].startswith("3.1") and "/lock/acquire" in openapi["paths"]
    page = at.get("/ui")
    assert page.type == "text/html" and b"<title>Rukun" in page.body
    assert at.request("HEAD", "/health").status == 200
    assert at.get("/v1/cluster").status == 200


def test_map_is_the_same_everywhere(cluster):
    maps = [node.map() for node in cluster]
    for other in maps[1:]:
        assert other["slots"] == maps[0]["slots"]
        assert other["cluster"] == maps[0]["cluster"]
        assert other["history"] == maps[0]["history"]


@pytest.mark.parametrize("node", NODES)
def test_metrics(cluster, node):
    at = cluster[node]

    def touches():
        """How many were answered. No other test asks for them, so none is still on its way."""
        text = at.get("/metrics").body.decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith("rukun_requests_total{") and 'op="cache.touch"' in line)

    before = touches()
    at.post("/cache/touch", {"k": "a", "ttl_ms": 1000})
    with at.connect() as rpc:
        rpc.call("cache.touch", key="a", ttl_ms=1000)
        text = at.get("/metrics").body
    assert touches() == before + 2
    assert b'rukun_requests_total{protocol="http",op="cache.touch",code="ok"}' in text
    assert b'rukun_requests_total{protocol="rpc",op="cache.touch",code="ok"}' in text
    assert b"rukun_rpc_connections 1" in text
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True,
                             check=False)
    assert checked.returncode == 0 and not checked.stderr, checked.stderr.decode()


def test_parallel_clients(cluster):
    """Many short connections at once, at all nodes."""
    errors = []

    def work(number):
        try:
            node = cluster.nodes[number % 3]
            for n in range(20):
                key = f"parallel-{number}-{n}"
                assert node.post("/cache/put", {"k": key, "v": n}).status == 200
                other = cluster.nodes[(number + 1) % 3]
                assert other.post("/cache/get", {"k": key})["value"] == n
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[:3]
