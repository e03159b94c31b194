"""Backups of a running cluster, and new histories that begin from them, with the tools."""

import http.client
import os
import socket
import subprocess
import threading
import time

import pytest

from rukun_cluster import BUILD, RUKUND, SLOW, wait_until

RUKUN = BUILD / "clients" / "cli" / "rukun"


def rukun(*words, code=0, cluster=None):
    """The tool; gives what it printed."""
    environment = {**os.environ, "RUKUN_RUKUND": str(RUKUND)}
    if cluster:
        environment["RUKUN_ENDPOINTS"] = ",".join(node.rpc for node in cluster.running())
    done = subprocess.run([RUKUN, *map(str, words)], text=True, capture_output=True,
                          timeout=120 * SLOW, env=environment)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def ok(node, path, **fields):
    answer = node.post(path, fields)
    assert answer.status == 200, f"{path} {fields}: {answer}"
    return answer.data


def prepare(cluster, backup):
    for node in cluster:
        rukun("snapshot", "restore", backup, "--data", node.data)


class Content:
    """What a cluster is filled with, and what must be left of it after a restore."""

    def __init__(self, node):
        for i in range(200):
            ok(node, "/cache/put", k=f"key{i}", v={"n": i})
        self.versions = {f"key{i}": ok(node, "/cache/get", k=f"key{i}")["version"]
                         for i in range(0, 200, 40)}
        self.session = ok(node, "/session/open", ttl_ms=60000)["session"]
        self.held = ok(node, "/lock/acquire", resource="held", owner="alice",
                       session=self.session)["fence"]
        ok(node, "/lock/acquire", resource="leased", owner="bob", lease_ms=600000)
        ok(node, "/lock/acquire", resource="job", owner="cron", min_hold_ms=3600000)
        ok(node, "/lock/release", resource="job", owner="cron")
        for i in range(30):
            ok(node, "/queue/publish", topic="work", data=i)
        taken = ok(node, "/queue/consume", topic="work", max=10, visibility_ms=600000)
        self.deliveries = [line["id"] for line in taken["messages"]]
        ok(node, "/queue/ack", ids=self.deliveries[:5])
        ok(node, "/queue/publish", topic="later", data="x", delay_ms=3600000)
        ok(node, "/queue/publish", topic="once", data="y", publish_id="p1")
        ok(node, "/queue/publish", topic="bad", data="z")
        bad = ok(node, "/queue/consume", topic="bad")["id"]
        ok(node, "/queue/nack", id=bad, dead=True)
        self.position = None

    def lose(self, node):
        """What comes after the backup: lost, but some clients have seen it."""
        for i in range(50):
            answer = node.post("/cache/put", {"k": "key0", "v": "lost"})
        self.position = answer.headers["Rukun-Position"]
        self.lost_version = answer["version"]
        ok(node, "/lock/release", resource="leased", owner="bob")
        self.lost_fence = ok(node, "/lock/acquire", resource="leased", owner="dave")["fence"]
        for delivery in self.deliveries[5:]:
            ok(node, "/queue/ack", id=delivery)

    def check(self, cluster):
        nodes = list(cluster)
        for i in range(200):
            answer = ok(nodes[i % len(nodes)], "/cache/get", k=f"key{i}")
            assert answer["value"] == {"n": i}
            assert self.versions.get(f"key{i}", answer["version"]) == answer["version"]
        node = nodes[-1]
        # Old positions are dropped, versions go on above the lost ones.
        answer = node.post("/cache/get", {"k": "key0"},
                           headers={"Rukun-Position": self.position})
        assert answer.status == 200 and answer["value"] == {"n": 0}
        assert self.position.split(":")[0] != answer.headers["Rukun-Position"].split(":")[0]
        assert ok(node, "/cache/put", k="new", v=1)["version"] > self.lost_version
        answer = node.post("/cache/put", {"k": "key0", "v": 1, "if_version": self.lost_version})
        assert answer.status == 412
        # Sessions and locks were those of clients of the old history.
        assert node.post("/session/keepalive", {"session": self.session}).status == 410
        for resource in ("held", "leased"):
            grant = ok(node, "/lock/acquire", resource=resource, owner="new", wait_ms=0)
            assert grant["fence"] > max(self.lost_fence, self.held)
        assert node.post("/lock/renew", {"resource": "held", "owner": "alice"})["code"] \
            == "not_owner"
        # What must not run again within its hour does not.
        assert node.post("/lock/acquire", {"resource": "job", "owner": "cron",
                                           "wait_ms": 0})["code"] == "held"
        # Messages in flight are ready again; deliveries of before are gone.
        for delivery in self.deliveries:
            assert node.post("/queue/ack", {"id": delivery})["code"] == "gone"
        taken = ok(node, "/queue/consume", topic="work", max=100)["messages"]
        assert [line["message"] for line in taken] == list(range(5, 30))
        assert ok(node, "/queue/ack", ids=[line["id"] for line in taken])["ack"]
        assert ok(node, "/queue/info", topic="later")["delayed"] == 1
        assert ok(node, "/queue/info", topic="bad/dead")["ready"] == 1
        # A publish that is tried again across the restore is not stored twice.
        ok(node, "/queue/publish", topic="once", data="y", publish_id="p1")
        assert ok(node, "/queue/info", topic="once")["ready"] == 1


class Writer(threading.Thread):
    """Puts numbered keys until it is stopped; knows how many were acknowledged."""

    def __init__(self, node):
        super().__init__()
        self.node = node
        self.done = 0
        self.is_over = False

    def run(self):
        while not self.is_over:
            ok(self.node, "/cache/put", k=f"load{self.done}", v=self.done)
            self.done += 1

    def stop(self):
        self.is_over = True
        self.join()


@pytest.mark.parametrize("size", [
    pytest.param(3, marks=pytest.mark.sanitize), 5, 1])
def test_restored_cluster_has_all_that_was_saved(fresh, tmp_path, size):
    old = fresh().wait_ready()
    content = Content(old["n1"])
    backup = tmp_path / "backup"
    writer = Writer(old["n2"])
    writer.start()
    wait_until(lambda: writer.done > 50, what="load")
    acknowledged = writer.done
    said = rukun("snapshot", "save", backup, cluster=old)
    writer.stop()
    assert "sound" in said and not list(tmp_path.glob("*.part"))
    content.lose(old["n3"])
    history = old["n1"].map()["history"]
    old.close()
    said = rukun("snapshot", "verify", backup)
    assert f"history {history}" in said and "topic" in said and "sound" in said
    inspected = subprocess.run([RUKUND, "inspect", backup], text=True, capture_output=True,
                               check=True).stdout
    assert "sound" in inspected

    new = fresh(size=size, start=False, flags=["--groups", "4"])
    prepare(new, backup)
    new.start()
    new.wait_ready()
    content.check(new)
    for i in range(acknowledged):
        assert ok(new["n1"], "/cache/get", k=f"load{i}")["value"] == i
    cluster = new["n1"].map()
    assert cluster["history"] not in ("", history)
    assert len(cluster["groups"]) == 10  # the backup's, not --groups
    # It is a cluster like any other: it survives a restart of all, and is saved in turn.
    for node in new:
        node.kill()
    new.start()
    new.wait_ready()
    assert ok(new["n1"], "/cache/get", k="key7")["value"] == {"n": 7}
    rukun("snapshot", "save", backup, "--node", "n1", cluster=new)
    assert f"history {cluster['history']}" in rukun("snapshot", "verify", backup)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small backup, for what is refused."""
    from rukun_cluster import Cluster
    path = tmp_path_factory.mktemp("saved") / "backup"
    with Cluster(size=1, flags=["--groups", "2"]) as cluster:
        cluster.wait_ready()
        for i in range(50):
            ok(cluster["n1"], "/cache/put", k=f"k{i}", v="x" * 500)
        rukun("snapshot", "save", path, cluster=cluster)
    return path


def test_damage_is_named_by_its_place(saved, tmp_path):
    whole = saved.read_bytes()
    bad = tmp_path / "bad"
    for place in (4, 60, len(whole) // 2, len(whole) - 10):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1:])
        for verb in (["verify", bad], ["restore", bad, "--data", tmp_path / "data"]):
            assert "offset" in rukun("snapshot", *verb, code=1)
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:size])
        assert "offset" in rukun("snapshot", "verify", bad, code=1)
    # Refused before anything was written.
    assert list((tmp_path / "data").iterdir()) == []
    rukun("snapshot", "restore", saved, "--data", tmp_path / "data")


def test_a_used_folder_is_refused(fresh, saved):
    cluster = fresh(size=1).wait_ready()
    cluster["n1"].stop()
    said = rukun("snapshot", "restore", saved, "--data", cluster["n1"].data, code=1)
    assert "holds data of a node already" in said
    cluster.start()
    cluster.wait_ready()


def state(node):
    """What the node says it is; "" while it does not answer."""
    try:
        return node.raft()["state"]
    except (OSError, http.client.HTTPException):
        return ""


def refusals(cluster):
    return [state(node) for node in cluster]


def test_all_nodes_begin_from_the_same_or_none(fresh, saved):
    cluster = fresh(start=False)
    for name in ("n1", "n2"):
        rukun("snapshot", "restore", saved, "--data", cluster[name].data)
    cluster.start()
    wait_until(lambda: all("refused: " in state for state in refusals(cluster)),
               what="every node says that the backup is missing somewhere")
    assert "this node has none: run rukund restore here" in refusals(cluster)[2]
    assert not any(node.is_ready() for node in cluster)
    assert "node n3 has none" in cluster["n1"].post("/cache/get", {"k": "k1"})["detail"]
    cluster["n3"].kill()
    cluster["n3"].wipe()
    rukun("snapshot", "restore", saved, "--data", cluster["n3"].data)
    cluster["n3"].start()
    cluster.wait_ready()
    assert ok(cluster["n3"], "/cache/get", k="k1")["value"] == "x" * 500


def test_a_slow_or_absent_reader_harms_nobody(fresh):
    cluster = fresh().wait_ready()
    node = cluster["n1"]
    for i in range(48):
        ok(node, "/cache/put", k=f"big{i}", v="x" * 500000)
    host, port = node.http.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in reader.recv(100)
        # It reads no more. One at a time; the node goes on.
        answer = node.get("/snapshot")
        assert answer.status == 429 and "already" in answer["detail"]
        began = time.monotonic()
        for i in range(100):
            ok(node, "/cache/put", k=f"k{i}", v=i)
        assert time.monotonic() - began < 10 * SLOW
    wait_until(lambda: node.get("/snapshot").status == 200, what="the next one is served")
    assert "its reader left" in node.log_text()
    assert node.metric("rukun_backups_total") == 1
    assert node.post("/snapshot", {}).status == 405


def test_another_engine_has_no_backups(fresh, saved):
    flags = ["--engine", "redis", "--redis-url", "redis://127.0.0.1:1"]
    cluster = fresh(size=1, flags=flags)
    wait_until(lambda: state(cluster["n1"]) == "running", what="the node serves")
    answer = cluster["n1"].get("/snapshot")
    assert answer.status == 501 and "back up what holds it" in answer["detail"]
    other = fresh(size=1, flags=flags, start=False)
    prepare(other, saved)
    other.start()
    assert other["n1"].process.wait(20 * SLOW) == 1
    other["n1"].process = None
    assert "only be restored with the embedded engine" in other["n1"].log_text()


def test_no_backup_without_a_majority(fresh, tmp_path):
    cluster = fresh().wait_ready()
    for name in ("n1", "n2"):
        cluster[name].kill()
    wait_until(lambda: not cluster["n3"].is_ready(), what="no quorum")
    said = rukun("snapshot", "save", tmp_path / "backup", "--http", cluster["n3"].http, code=69)
    assert "no majority" in said and list(tmp_path.iterdir()) == []


def test_a_save_that_breaks_off_leaves_nothing(tmp_path):
    """A node that ends in the midst: half an answer is no backup."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               b"5\r\nhello\r\n")
            connection.close()
        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = rukun("snapshot", "save", tmp_path / "backup", "--http", address, code=69)
        thread.join()
    assert "gave up in the midst" in said and list(tmp_path.iterdir()) == []
