"""Data of a cluster on one engine go to a cluster on the other, with the tool."""
import os
import pathlib
import subprocess
import sys
import time

import pytest
from redis_server import Cluster as RedisCluster
from redis_server import Redis, RedisError, wait_until

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from rukun_cluster import BUILD, RUKUND, SLOW, Cluster  # noqa: E402

RUKUN = BUILD / "clients" / "cli" / "rukun"
HOUR = 3600000


def rukun(*words, code=0, cluster=None):
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


def fill(node):
    """Something of all that both engines hold. Gives a delivery that is in flight."""
    for i in range(40):
        ok(node, "/queue/publish", topic="work", data={"n": i}, priority=i % 3,
           headers={"trace": f"t{i}"}, **({"group": f"g{i % 2}"} if i % 5 == 0 else {}))
    ok(node, "/queue/configure", topic="work", visibility_ms=45000, deliveries_max=3,
       retry_ms=10, retry_max_ms=500, dedup_ms=HOUR, messages_max=1000)
    taken = ok(node, "/queue/consume", topic="work", max=4)["messages"]
    ok(node, "/queue/ack", id=taken[0]["id"])
    ok(node, "/queue/nack", id=taken[1]["id"], delay_ms=0)
    ok(node, "/queue/nack", id=taken[2]["id"], dead=True)
    ok(node, "/queue/publish", topic="later", data="absolute",
       deliver_at=int(time.time() * 1000) + HOUR)
    ok(node, "/queue/publish", topic="later", data="relative", delay_ms=HOUR)
    ok(node, "/queue/publish", topic="short", data="lives", ttl_ms=HOUR)
    ok(node, "/queue/publish", topic="work", data="once", publish_id="p1")
    for scope in ("queued", "acked", "window"):
        ok(node, "/queue/publish", topic="keyed", data=scope,
           unique={"key": f"k-{scope}", "scope": scope})
    ok(node, "/queue/publish", topic="we{ird}:%/t", data="name")
    ok(node, "/queue/publish", topic="alone/dead", data="no topic above")
    ok(node, "/queue/publish", topic="still", data="paused")
    ok(node, "/queue/pause", topic="still")
    ok(node, "/queue/publish", topic="fenced", data=1, fence=500)
    ok(node, "/queue/publish", topic="fenced", data=2, fence=700, fence_name="a")
    # More than goes in one page.
    ok(node, "/queue/publish", topic="many", messages=[{"data": i} for i in range(600)])
    for i in range(60):
        ok(node, "/cache/put", k=f"key{i}", v={"n": i})
    ok(node, "/cache/put", k="living", v=1, ttl_ms=HOUR)
    ok(node, "/cache/put", k="soft", v=1, ttl_ms=HOUR, soft_ttl_ms=1)
    ok(node, "/cache/put", k="fenced", v=1, fence=900)
    ok(node, "/cache/put", k="a{b}:%", v="text", cache="na:me")
    ok(node, "/cache/add", k="count", delta=41)
    ok(node, "/cache/configure", cache="brief", ttl_ms=HOUR)
    return taken[3]["id"]


TOPICS = ["work", "work/dead", "later", "short", "keyed", "we{ird}:%/t", "alone/dead", "still",
          "fenced", "many"]
KEYS = [*(f"key{i}" for i in range(60)), "living", "soft", "fenced", "count"]


def content(node):
    """All of it as the API shows it; what must differ, like ids, is left out."""
    out = {}
    for topic in TOPICS:
        info = ok(node, "/queue/info", topic=topic)
        # What was in flight is ready, and was not handed out.
        info["ready"] += info.pop("in_flight")
        stats = ok(node, "/queue/stats", topic=topic)
        for name in ("ready", "in_flight", "delivered", "durability"):
            stats.pop(name)
        lines = ok(node, "/queue/peek", topic=topic, limit=100)["messages"]
        out[topic] = info, stats, [
            {name: value for name, value in line.items()
             if name not in ("id", "message_id", "state")} for line in lines]
    for key in KEYS:
        entry = ok(node, "/cache/get", k=key)
        out[f"entry {key}"] = entry["value"], entry["version"], entry.get("stale")
    out["named"] = ok(node, "/cache/get", k="a{b}:%", cache="na:me")["value"]
    return out


def check_rules(node, foreign):
    """What is not to be seen, but to be noticed."""
    assert node.post("/queue/ack", {"id": foreign})["code"] == "gone"
    # What stands for a message stands for it still.
    before = ok(node, "/queue/info", topic="work")["ready"]
    lines = ok(node, "/queue/peek", topic="work", limit=100)["messages"]
    held = next(line["message_id"] for line in lines if line["message"] == "once")
    assert ok(node, "/queue/publish", topic="work", data="again", publish_id="p1")["id"] == held
    assert ok(node, "/queue/info", topic="work")["ready"] == before
    for scope in ("queued", "acked", "window"):
        ok(node, "/queue/publish", topic="keyed", data="again",
           unique={"key": f"k-{scope}", "scope": scope})
    assert ok(node, "/queue/info", topic="keyed")["ready"] == 3
    for fields in ({"fence": 499}, {"fence": 699, "fence_name": "a"}):
        assert node.post("/queue/publish", {"topic": "fenced", "data": 0, **fields})["code"] \
            == "stale_fence"
    assert node.post("/cache/put", {"k": "fenced", "v": 2, "fence": 899})["code"] == "stale_fence"
    version = ok(node, "/cache/get", k="key1")["version"]
    ok(node, "/cache/delete", k="key1")
    assert ok(node, "/cache/put", k="key1", v=2)["version"] > version
    assert ok(node, "/cache/add", k="count", delta=1)["value"] == 42
    # In order: priority, then publish order; groups one after the other.
    taken = ok(node, "/queue/consume", topic="work", max=100)["messages"]
    priorities = [line.get("priority", 0) for line in taken]
    assert priorities == sorted(priorities, reverse=True) and len(taken) > 20
    assert ok(node, "/queue/ack", ids=[line["id"] for line in taken])["ack"]
    assert ok(node, "/queue/redrive", topic="work")["count"] == 1
    line = ok(node, "/queue/consume", topic="work", max=1)["messages"][0]
    ok(node, "/queue/ack", id=line["id"])
    many = ok(node, "/queue/consume", topic="many", max=1000)["messages"]
    assert [line["message"] for line in many] == list(range(600))
    dead = ok(node, "/queue/consume", topic="alone/dead")
    assert ok(node, "/queue/ack", id=dead["id"])["ack"]
    kept = ok(node, "/queue/consume", topic="keyed", max=3)["messages"]
    assert ok(node, "/queue/ack", ids=[line["id"] for line in kept])["ack"]


def on_redis(redis, folder, prefix="m:", size=3):
    return Cluster(size, flags=["--engine", "redis", "--redis-url", url_of(redis, prefix)],
                   folder=folder)


def url_of(redis, prefix="m:"):
    return redis.url(query=f"prefix={prefix}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A backup of a cluster that was filled, what was in it, and a delivery of it."""
    folder = tmp_path_factory.mktemp("saved")
    with Cluster(1, folder=folder / "old") as old:
        old.wait_ready()
        delivery = fill(old["n1"])
        lock = ok(old["n1"], "/lock/acquire", resource="r", owner="o")
        shown = content(old["n1"])
        rukun("snapshot", "save", folder / "backup", cluster=old)
    return folder / "backup", shown, delivery, lock["fence"]


def check_moved(redis, saved, folder):
    backup, shown, delivery, _ = saved
    said = rukun("migrate", backup, "--to", url_of(redis))
    assert "done" in said and "10 topics" in said, said
    with on_redis(redis, folder / "new") as new:
        new.wait_ready()
        assert content(new["n1"]) == shown
        check_rules(new["n2"], delivery)
        assert ok(new["n3"], "/queue/info", topic="later")["delayed"] == 2


def test_a_backup_goes_to_redis(redis, saved, tmp_path):
    check_moved(redis, saved, tmp_path)
    said = rukun("migrate", saved[0], "--to", url_of(redis), code=1)
    assert "Redis holds the data of cluster" in said


def test_a_backup_goes_to_a_cluster(saved, tmp_path):
    with RedisCluster(replicas=0) as redis:
        check_moved(redis, saved, tmp_path)


def test_a_dry_run_writes_nothing(redis, saved):
    said = rukun("migrate", saved[0], "--to", url_of(redis), "--dry-run")
    assert "would be moved" in said and "stays behind" in said
    assert "1 locks" in said
    floor = int(said.split("--fence-floor ")[1].split(",")[0])
    assert floor > saved[3]
    assert redis("DBSIZE") == 0


def test_what_was_not_finished_is_refused(redis, saved, tmp_path):
    redis("HSET", "m:rukun:meta", "format", "1", "cluster", "(migration not finished)",
          "history", "5")
    said = rukun("migrate", saved[0], "--to", url_of(redis), code=1)
    assert "whose move was not finished" in said
    with on_redis(redis, tmp_path / "new", size=1) as new:
        def is_refused():
            try:
                health = new["n1"].get("/readyz")
            except OSError:
                return False  # it starts
            return health.status == 503 and "not finished" in health.data.get("reason", "")

        wait_until(is_refused, what="/readyz says why")
        answer = new["n1"].post("/queue/publish", {"topic": "t", "data": 1})
        assert answer.status == 503 and "not finished" in str(answer.data), answer


def test_bad_input_is_named(redis, saved, tmp_path):
    url = url_of(redis)
    broken = tmp_path / "broken"
    data = bytearray(saved[0].read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    assert "offset" in rukun("migrate", broken, "--to", url, code=1)
    assert redis("DBSIZE") == 0
    assert "nowhere" in rukun("migrate", tmp_path / "nowhere", "--to", url, code=2)
    assert "db" in rukun("migrate", saved[0], "--to", "redis://127.0.0.1/99999999", code=2)
    assert "usage" in rukun("migrate", saved[0], "--to", tmp_path / "file", code=2)
    redis.kill()
    said = rukun("migrate", saved[0], "--to", url_of(redis) + "&timeout-ms=500", code=2)
    assert "Redis" in said


def restored(folder, backup):
    cluster = Cluster(3, folder=folder, start=False)
    for node in cluster:
        rukun("snapshot", "restore", backup, "--data", node.data)
    cluster.start()
    return cluster.wait_ready()


def unlist(redis, topic, prefix="m:"):
    """As if the node that was to enter dead letters into the list of topics had died."""
    for server in getattr(redis, "servers", [redis]):
        try:
            assert server("HDEL", prefix + "{q:topics}", topic) == 1
        except RedisError as error:
            assert str(error).startswith("MOVED")


def check_back(redis, folder):
    url, backup = url_of(redis), folder / "backup"
    with on_redis(redis, folder / "old", size=1) as old:
        old.wait_ready()
        delivery = fill(old["n1"])
        fence = ok(old["n1"], "/lock/acquire", resource="r", owner="o")["fence"]
        ok(old["n1"], "/lock/acquire", resource="job", owner="o", min_hold_ms=HOUR)
        ok(old["n1"], "/lock/release", resource="job", owner="o")
        shown = content(old["n1"])
        assert "n1 is connected" in rukun("migrate", url, "--to", backup, code=1)
    unlist(redis, "work/dead")
    assert "would be moved" in rukun("migrate", url, "--to", backup, "--dry-run")
    assert not backup.exists()
    said = rukun("migrate", url, "--to", backup, "--groups", "4")
    assert "10 topics" in said and list(folder.glob("backup*")) == [backup], said
    assert "sound" in rukun("snapshot", "verify", backup)
    assert "there is such a file" in rukun("migrate", url, "--to", backup, code=1)
    with Redis() as other:
        rukun("migrate", backup, "--to", url_of(other))
        assert sorted((line[0][2], *line[5:7])
                      for line in states(other, "m:")["q:{work}:state"]
                      if line[4] != "0") == [("s", "0", "0"), ("s", "1", "1")]
    with restored(folder / "new", backup) as new:
        assert content(new["n1"]) == shown
        check_rules(new["n2"], delivery)
        assert ok(new["n3"], "/lock/acquire", resource="r", owner="p")["fence"] > fence
        assert new["n1"].post("/lock/acquire", {"resource": "job", "owner": "p",
                                                "wait_ms": 0})["code"] == "held"


def test_redis_goes_to_a_backup(redis, tmp_path):
    check_back(redis, tmp_path)


def test_a_redis_cluster_goes_to_a_backup(tmp_path):
    with RedisCluster(replicas=0) as redis:
        check_back(redis, tmp_path)


def states(redis, prefix):
    """Where all messages stand, by topic: failures and hand-outs, too, which no call shows.
    Without their numbers, which are new."""
    out = {}
    for key in redis("KEYS", f"{prefix}q:*:state"):
        lines = [value.replace(f"{prefix}q:", "q:").split(" ") for value in redis("HVALS", key)]
        out[key[len(prefix):]] = sorted([*line[:1], *line[2:]] for line in lines)
    return out


@pytest.mark.sanitize
def test_there_and_back_again(redis, saved, tmp_path):
    backup, shown, delivery, _ = saved
    rukun("migrate", backup, "--to", url_of(redis))
    with on_redis(redis, tmp_path / "between", size=1) as between:
        between.wait_ready()
        assert content(between["n1"]) == shown
    rukun("migrate", url_of(redis), "--to", tmp_path / "again")
    rukun("migrate", tmp_path / "again", "--to", url_of(redis, "n:"))
    before = states(redis, "m:")
    assert states(redis, "n:") == before
    # [letters, order, priority, expiry, attempt, deliveries, failures, ...]: the one that was
    # given back counts once, the one that was in flight does not.
    counts = sorted((line[0][2], *line[4:7]) for line in before["q:{work}:state"]
                    if line[4] != "0")
    assert counts == [("s", "1", "0", "0"), ("s", "1", "1", "1")]
    with restored(tmp_path / "new", tmp_path / "again") as new:
        assert content(new["n1"]) == shown
        check_rules(new["n2"], delivery)


def test_what_is_not_there_is_named(redis, tmp_path):
    assert "no data" in rukun("migrate", url_of(redis), "--to", tmp_path / "f", code=2)
    redis("HSET", "m:rukun:meta", "format", "7", "cluster", "c", "history", "5")
    assert "format 7" in rukun("migrate", url_of(redis), "--to", tmp_path / "f", code=1)
    redis("HSET", "m:rukun:meta", "format", "1", "cluster", "(migration not finished)")
    assert "not finished" in rukun("migrate", url_of(redis), "--to", tmp_path / "f", code=1)
    said = rukun("migrate", url_of(redis), "--to", tmp_path / "f", "--groups", "0", code=2)
    assert "groups" in said and not list(tmp_path.iterdir())
