"""What callers of a node are told when Redis dies or errs in the midst of their calls."""

import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from redis_server import Redis, wait_until  # noqa: E402
from rukun_cluster import Cluster  # noqa: E402

WRITES = {
    "/cache/put": {"key": "k", "value": 1},
    "/cache/add": {"key": "n", "delta": 1},
    "/cache/touch": {"key": "k", "ttl_ms": 60000},
    "/cache/delete": {"key": "k"},
    "/cache/configure": {"cache": "c", "ttl_ms": 1000},
    "/queue/publish": {"topic": "t", "data": 1},
}


def node_on(url):
    return Cluster(size=1, flags=["--engine", "redis", "--redis-url", url])


def assert_unknown(answer, text):
    assert (answer.status, answer["code"], answer["outcome"]) == (504, "unknown_outcome", "unknown")
    assert text in answer["detail"]


def test_a_master_that_dies_before_its_replica_has_the_write():
    """It took the write and said so: that is worth nothing to who waits for a replica."""
    for path, done in [("/cache/put", lambda master: master("EXISTS", "cache:{k}")),
                       ("/cache/configure", lambda master: master("EXISTS", "cache:settings")),
                       ("/queue/publish", lambda master: master("LLEN", "q:{t}") == 2)]:
        with Redis() as master, Redis(replicaof=f"127.0.0.1 {master.port}") as replica, \
                node_on(master.url(query="wait=1&wait-ms=3000")) as cluster:
            wait_until(lambda: replica.info("master_link_status") == "up", what="the replica follows")
            node = cluster.wait_ready()["n1"]
            # Redis knows the scripts from then on.
            assert node.post("/queue/publish", WRITES["/queue/publish"]).status == 200
            assert node.post("/cache/put", {"key": "other", "value": 1}).status == 200
            replica.pause()
            answers = []
            caller = threading.Thread(target=lambda: answers.append(
                node.post(path, WRITES[path], headers={"Rukun-Deadline-Ms": "8000"})))
            caller.start()
            wait_until(lambda: done(master) and master.info("blocked_clients") == "1",
                       what="the master has the write, and waits for its replica")
            master.kill()
            caller.join()
            assert_unknown(answers[0], "before it said how many replicas have it")


def test_too_few_replicas():
    with Redis() as master, Redis(replicaof=f"127.0.0.1 {master.port}") as replica, \
            node_on(master.url(query="wait=1&wait-ms=10")) as cluster:
        node = cluster.wait_ready()["n1"]
        wait_until(lambda: node.post("/queue/publish", WRITES["/queue/publish"]).status == 200,
                   what="the replica has it in time")
        replica.kill()
        for path, fields in WRITES.items():
            assert_unknown(node.post(path, fields), "only 0 of 1 replicas")
        assert node.post("/cache/get", {"key": "n"})["value"] == 1, "a read waits for nobody"


def test_a_script_that_fails_in_its_midst():
    """The user may write, but not tell others: the entry is there, and the caller hears that it
    may be."""
    with Redis() as redis:
        redis("ACL", "SETUSER", "mute", "on", ">pw", "~*", "&q:*", "&cache:*", "+@all")
        url = redis.url().replace("redis://", "redis://mute:pw@")
        with node_on(url) as cluster:
            node = cluster.wait_ready()["n1"]
            redis("ACL", "SETUSER", "mute", "resetchannels", "&q:*")
            for path in ("/cache/put", "/cache/add", "/cache/delete"):
                refused = node.post(path, WRITES[path])
                assert (refused.status, refused["outcome"]) == (500, "unknown"), refused
            assert redis("HGET", "cache:{n}", "value") == "1"
            missing = node.post("/cache/delete", {"key": "k", "if_version": 3})
            assert missing.status == 412, "what wrote nothing is refused as ever"
            assert node.post("/cache/get", {"key": "n"})["value"] == 1
