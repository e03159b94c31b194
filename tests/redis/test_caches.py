"""cache.* of the redis engine: three nodes over one Redis, seen through HTTP and, with other
eyes, through Redis's own connection."""

import json
import pathlib
import re
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

import redis_server  # noqa: E402
from redis_server import Redis, wait_until  # noqa: E402
from rukun_cluster import Cluster  # noqa: E402


def engine(redis, *flags, query=""):
    return ["--engine", "redis", "--redis-url", redis.url(query=query), *flags]


@pytest.fixture(scope="module")
def store():
    with Redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def cluster(store):
    with Cluster(flags=engine(store)) as nodes:
        nodes.wait_ready()
        for node in nodes:
            wait_until(lambda node=node: node.metric("rukun_lru_live") == 1, what="ticks heard")
        yield nodes


def call(node, verb, headers=None, status=200, **fields):
    answer = node.post(f"/cache/{verb}", fields, headers=headers)
    assert answer.status == status, answer
    return answer


def hits(node):
    return node.metric("rukun_lru_hits_total")


def test_an_entry_is_a_hash_that_can_be_read(cluster, store):
    put = call(cluster["n1"], "put", k="a{b}:c", v={"x": 1}, ttl_ms=60000, soft_ttl_ms=30000)
    entry = store("HGETALL", "cache:{a%7Bb%7D%3Ac}")
    entry = dict(zip(entry[::2], entry[1::2]))
    assert json.loads(entry["value"]) == {"x": 1}
    assert entry["encoding"] == "json"
    assert int(entry["version"]) == put["version"] < 2**53
    assert 59000 < store("PTTL", "cache:{a%7Bb%7D%3Ac}") <= 60000
    assert call(cluster["n2"], "get", k="a{b}:c")["value"] == {"x": 1}
    call(cluster["n1"], "put", k="plain", v=1, cache="named:1")
    assert store("HGET", "cache:named%3A1:{plain}", "value") == "1"


def test_a_put_is_published_and_other_nodes_drop_their_copies(cluster, store):
    node = cluster["n2"]
    call(cluster["n1"], "put", k="watched", v="old")
    assert call(node, "get", k="watched")["value"] == "old"
    before = hits(node)
    assert call(node, "get", k="watched", consistency="local")["value"] == "old"
    assert hits(node) == before + 1, "the copy answers"
    with store.connect() as monitor:
        monitor("MONITOR")
        version = call(cluster["n1"], "put", k="watched", v="new")["version"]
        lines = []
        while not any('"PUBLISH"' in line and "watched" in line for line in lines):
            lines.append(monitor.read())
    published = lines[-1]
    assert '"PUBLISH" "cache:cluster"' in published
    assert f'{{\\"op\\":\\"invalidate\\",\\"key\\":\\"watched\\",\\"version\\":{version}}}' in published
    misses = node.metric("rukun_lru_misses_total")
    wait_until(lambda: call(node, "get", k="watched", consistency="local")["value"] == "new",
               what="the copy goes")
    assert node.metric("rukun_lru_misses_total") > misses


def rounds(cluster, count, after):
    """count puts at one node, each of a key of which another node has a copy, and two gets
    there: the first one asks Redis, the second one has a copy. The old values that came, and
    how often copies answered."""
    old = []
    nodes = list(cluster)
    before = sum(map(hits, nodes))
    for number in range(count):
        writer, reader = nodes[number % 3], nodes[(number + 1) % 3]
        key = f"turn-{number % 7}"
        call(reader, "get", k=key)
        put = call(writer, "put", k=key, v=number)
        headers, fields = after(put)
        for _ in range(2):
            got = call(reader, "get", headers=headers, k=key, **fields)
            if got["value"] != number:
                old.append((number, got.data))
    return old, sum(map(hits, nodes)) - before


def session(put):
    return {"Rukun-Position": put.headers["Rukun-Position"]}, {}


def linearizable(put):
    return {}, {"consistency": "linearizable"}


class Meanwhile:
    """Does it again and again, with a pause, while the body runs."""

    def __init__(self, pause, do):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(pause, do))

    def run(self, pause, do):
        while not self.stop.wait(pause):
            do()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def counts(fast):
    return pytest.mark.parametrize("count", [fast, pytest.param(10000, marks=pytest.mark.slow)])


both = pytest.mark.parametrize("after", [session, linearizable])


@counts(1000)
@both
def test_no_old_value_is_read(cluster, count, after):
    old, copies = rounds(cluster, count, after)
    assert old == []
    assert copies > count // 2 if after is session else copies == 0


@counts(600)
@both
def test_no_old_value_while_invalidations_are_cut(cluster, store, count, after):
    """Redis cuts the subscribers again and again: what is published meanwhile is lost."""
    losses = cluster["n1"].metric("rukun_redis_losses_total")
    with store.connect() as connection, \
            Meanwhile(0.02, lambda: connection("CLIENT", "KILL", "TYPE", "pubsub")):
        old, copies = rounds(cluster, count, after)
    assert old == []
    assert copies > 0 if after is session else copies == 0, copies
    assert cluster["n1"].metric("rukun_redis_losses_total") > losses, "it was cut"
    for node in cluster:
        wait_until(lambda node=node: node.metric("rukun_lru_live") == 1, what="ticks heard again")


@counts(600)
@both
def test_no_old_value_while_invalidations_are_lost(store, count, after):
    """Half of them never come, and no node can know: ticks come often enough."""
    with redis_server.Tap(store) as tap, \
            Cluster(flags=["--engine", "redis", "--redis-url",
                           tap.url(query=f"prefix=lost-{after.__name__}-{count}/")]) as cluster:
        cluster.wait_ready()
        for node in cluster:
            wait_until(lambda node=node: node.metric("rukun_lru_live") == 1, what="ticks heard")

        def turn():
            tap.is_muted = not tap.is_muted

        with Meanwhile(0.6, turn):
            old, copies = rounds(cluster, count, after)
        assert old == []
        assert copies > 0 if after is session else copies == 0, copies


def test_a_subscription_that_is_silent(store):
    """Messages are lost and no connection breaks: the copies go when no tick is heard, and who
    has seen a write reads it all the while."""
    with redis_server.Tap(store) as tap, \
            Cluster(size=1, flags=["--engine", "redis", "--redis-url",
                                   tap.url(query="prefix=silent/")]) as cluster:
        node = cluster.wait_ready()["n1"]
        wait_until(lambda: node.metric("rukun_lru_live") == 1, what="ticks heard")
        seen = call(node, "put", k="k", v="old").headers["Rukun-Position"]
        wait_until(lambda: call(node, "get", k="k", consistency="local")["value"] == "old"
                   and hits(node) > 0, what="a copy answers")
        losses = node.metric("rukun_redis_losses_total")
        tap.is_muted = True
        # What another node's script would do.
        seconds, micros = store("TIME")
        version = int(seconds) * 1000000 + int(micros)
        store("HSET", "silent/cache:{k}", "value", '"new"', "version", version)
        store("PUBLISH", "silent/cache:cluster",
              json.dumps({"op": "invalidate", "key": "k", "version": version}))
        position = {"Rukun-Position": f"{seen.rpartition('=')[0]}={version}"}

        def is_deaf():
            assert call(node, "get", headers=position, k="k")["value"] == "new"
            assert call(node, "get", k="k", consistency="linearizable")["value"] == "new"
            return node.metric("rukun_lru_live") == 0

        wait_until(is_deaf, timeout=10, what="no tick is heard")
        assert node.metric("rukun_lru_entries") == 0
        assert call(node, "get", k="k", consistency="local")["value"] == "new"
        assert node.metric("rukun_lru_silences_total") == 1
        assert "invalidations are not heard" in node.log_text()
        assert node.metric("rukun_redis_losses_total") == losses
        tap.is_muted = False
        wait_until(lambda: node.metric("rukun_lru_live") == 1, what="ticks heard again")
        copies = hits(node)
        wait_until(lambda: call(node, "get", headers=position, k="k")["value"] == "new"
                   and hits(node) > copies, what="copies answer again")


def test_a_lost_invalidation_harms_no_one_who_knows_better(cluster, store):
    """A write whose message never came: a copy answers only who has not seen the write."""
    node = cluster["n2"]
    seen = call(cluster["n1"], "put", k="silent", v="old").headers["Rukun-Position"]
    wait_until(lambda: call(node, "get", k="silent").status == 200
               and call(node, "get", k="silent", consistency="local")["value"] == "old")
    seconds, micros = store("TIME")
    version = int(seconds) * 1000000 + int(micros)
    store("HSET", "cache:{silent}", "value", '"new"', "version", version)
    assert call(node, "get", k="silent", consistency="local")["value"] == "old"
    history, items = seen.split(":")
    group = items.split("=")[0]
    position = {"Rukun-Position": f"{history}:{group}={version}"}
    assert call(node, "get", headers=position, k="silent")["value"] == "new"


def test_versions_rise_over_a_deletion(cluster):
    first = call(cluster["n1"], "put", k="again", v=1)["version"]
    gone = call(cluster["n2"], "delete", k="again")
    assert gone["deleted"] is True
    second = call(cluster["n3"], "put", k="again", v=2)["version"]
    assert first < gone["version"] < second
    call(cluster["n1"], "put", status=412, k="again", v=3, if_version=first)
    call(cluster["n1"], "put", k="again", v=3, if_version=second)


def test_counters_are_exact_to_64_bits(cluster):
    big = 2**62 + 1
    assert call(cluster["n1"], "add", k="sum", delta=1, initial=2**62)["value"] == big
    assert call(cluster["n2"], "add", k="sum", delta=0)["value"] == big
    assert call(cluster["n3"], "add", status=422, k="sum", delta=2**62)["code"] == "out_of_bounds"
    assert call(cluster["n1"], "get", k="sum")["value"] == big
    node = cluster["n2"]
    put = node.post("/cache/put", {"k": "packed", "v": 41}, encoding="application/msgpack")
    assert put.status == 200
    assert call(node, "add", k="packed", delta=1)["value"] == 42
    call(node, "put", k="text", v="x")
    assert call(node, "add", status=406, k="text", delta=1)["code"] == "not_acceptable"


def test_one_caller_fills_and_the_others_wait(cluster):
    token = call(cluster["n1"], "get", k="slow", fill_ms=5000)["fill_token"]
    answers = []

    def wait(node):
        answers.append(call(node, "get", k="slow", fill_ms=5000, wait_ms=10000).data)

    threads = [threading.Thread(target=wait, args=(node,)) for node in cluster for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(node.metric("rukun_lru_filling") for node in cluster) == 9,
               what="nine wait")
    call(cluster["n2"], "put", k="slow", v="made", fill_token=token)
    for thread in threads:
        thread.join()
    assert [answer["value"] for answer in answers] == ["made"] * 9
    call(cluster["n3"], "put", status=409, k="slow", v="late", fill_token=token)


def test_the_next_one_fills_when_the_first_is_gone(cluster):
    assert "fill_token" in call(cluster["n1"], "get", k="lost", fill_ms=300).data
    start = time.monotonic()
    answer = call(cluster["n2"], "get", k="lost", fill_ms=300, wait_ms=5000)
    assert answer["found"] is False and "fill_token" in answer.data
    assert 0.2 < time.monotonic() - start < 3


def test_a_change_voids_the_token(cluster):
    for verb, fields in [("delete", {}), ("put", {"v": 1}), ("invalidate", {})]:
        token = call(cluster["n1"], "get", k=f"void-{verb}", fill_ms=9000)["fill_token"]
        if verb == "invalidate":
            call(cluster["n2"], "invalidate", prefix="void-inv")
        else:
            call(cluster["n2"], verb, k=f"void-{verb}", **fields)
        answer = call(cluster["n3"], "put", status=409, k=f"void-{verb}", v=2, fill_token=token)
        assert answer["code"] == "void_token"


def test_a_stale_value_stays_while_one_refreshes(cluster):
    call(cluster["n1"], "put", k="soft", v="old", ttl_ms=60000, soft_ttl_ms=50)
    time.sleep(0.1)
    first = call(cluster["n2"], "get", k="soft", fill_ms=5000)
    assert first["value"] == "old" and first["stale"] is True and "fill_token" in first.data
    second = call(cluster["n3"], "get", k="soft", fill_ms=5000)
    assert second["value"] == "old" and second["stale"] is True and "fill_token" not in second.data
    call(cluster["n3"], "put", k="soft", v="new", fill_token=first["fill_token"])
    assert call(cluster["n1"], "get", k="soft")["value"] == "new"


def test_a_repeat_gets_the_first_answer(cluster):
    headers = {"Idempotency-Key": "tester/1", "Rukun-Deadline-Ms": "5000"}
    first = call(cluster["n1"], "put", headers=headers, k="once", v="mine").data
    call(cluster["n2"], "put", k="once", v="another's")
    assert call(cluster["n3"], "put", headers=headers, k="once", v="mine").data == first
    assert call(cluster["n1"], "get", k="once")["value"] == "another's"
    headers["Idempotency-Key"] = "tester/2"
    assert call(cluster["n1"], "add", headers=headers, k="n", delta=1)["value"] == 1
    assert call(cluster["n2"], "add", headers=headers, k="n", delta=1)["value"] == 1
    headers["Idempotency-Key"] = "tester/3"
    gone = call(cluster["n1"], "delete", headers=headers, k="once").data
    assert gone["deleted"] is True
    assert call(cluster["n2"], "delete", headers=headers, k="once").data == gone


def test_a_repeat_may_come_minutes_later(cluster, store):
    """Whatever its deadline was: a client that was away asks again with another one."""
    node = cluster["n1"]
    before = {}
    for number, (verb, fields) in enumerate([("put", {"v": 1}), ("add", {"delta": 1}),
                                             ("touch", {"ttl_ms": 900000}), ("delete", {})]):
        headers = {"Idempotency-Key": f"patient/{number + 1}", "Rukun-Deadline-Ms": "200"}
        before[verb] = (fields, headers, call(node, verb, headers=headers, k="late", **fields).data)
    kept = sorted(store("KEYS", "cache:{late}:request:*"))
    assert kept == [f"cache:{{late}}:request:patient/{number}" for number in range(1, 5)]
    for key in kept:
        assert 650000 < store("PTTL", key) <= 660000
    call(cluster["n2"], "put", k="late", v=7, ttl_ms=800000)
    for verb, (fields, headers, answer) in before.items():
        assert call(cluster["n3"], verb, headers=headers, k="late", **fields).data == answer
    assert call(node, "get", k="late")["value"] == 7
    assert store("PTTL", "cache:{late}") <= 800000, "its life did not begin anew"


def test_invalidate_takes_a_cache_or_a_prefix(cluster, store):
    for number in range(1500):
        store("HSET", f"cache:many:{{k{number}}}", "value", number, "encoding", "json", "version", 1)
    call(cluster["n1"], "put", k="k1", v="stays", cache="other")
    assert call(cluster["n2"], "get", k="k12", cache="many")["value"] == 12
    assert call(cluster["n1"], "invalidate", cache="many", prefix="k12")["count"] == 111
    assert call(cluster["n2"], "get", k="k12", cache="many")["found"] is False
    assert call(cluster["n1"], "invalidate", cache="many")["count"] == 1389
    assert call(cluster["n3"], "get", k="k1", cache="other")["value"] == "stays"


def test_settings_of_a_cache(cluster, store):
    call(cluster["n1"], "configure", cache="brief", ttl_ms=40000)
    call(cluster["n1"], "put", cache="brief", k="a", v=1)
    assert 0 < store("PTTL", "cache:brief:{a}") <= 40000
    wait_until(lambda: call(cluster["n2"], "put", cache="brief", k="b", v=1)
               and store("PTTL", "cache:brief:{b}") > 0, what="the other node knows it")
    refused = call(cluster["n1"], "configure", status=501, cache="brief", bytes_max=1)
    assert (refused["code"], refused["field"]) == ("unsupported", "bytes_max")


def test_redis_away_is_503_and_comes_back(store):
    with Redis(aof=True) as redis, Cluster(flags=engine(redis)) as cluster:
        cluster.wait_ready()
        node = cluster["n1"]
        call(node, "put", k="kept", v=1)
        wait_until(lambda: node.metric("rukun_lru_live") == 1)
        position = call(node, "get", k="kept").headers["Rukun-Position"]
        redis.kill()
        started = time.monotonic()
        refused = call(node, "get", status=503, headers={"Rukun-Deadline-Ms": "700"}, k="kept",
                       consistency="linearizable")
        assert (refused["code"], refused["outcome"]) == ("unavailable", "not_done")
        assert 0.5 < time.monotonic() - started < 5
        wait_until(lambda: node.get("/health").status == 503, what="health says so")
        # Nothing is answered from hope: the copies went with the connection.
        call(node, "get", status=503,
             headers={"Rukun-Deadline-Ms": "300", "Rukun-Position": position}, k="kept")
        redis.start()
        assert call(node, "get", k="kept")["value"] == 1
        wait_until(lambda: node.get("/health").status == 200, what="healthy again")


CALLS = {
    "/cache/put": {"k": "a", "v": 1},
    "/cache/get": {"k": "a"},
    "/cache/delete": {"keys": ["a", "b"]},
    "/cache/touch": {"k": "a", "ttl_ms": 1000},
    "/cache/add": {"k": "n", "delta": 1},
    "/cache/invalidate": {},
    "/cache/configure": {"ttl_ms": 1000},
    "/queue/publish": {"topic": "t", "data": 1},
    "/lock/acquire": {"resource": "r", "owner": "o"},
    "/session/open": {},
}


def answer(node, path):
    """None while it starts."""
    try:
        return node.post(path, CALLS[path], headers={"Rukun-Deadline-Ms": "2000"})
    except OSError:
        return None


def assert_refused(node, why, paths=tuple(CALLS)):
    """Every call is refused with that reason, once it is known; /health and /readyz say it."""
    for path in paths:
        refused = wait_until(lambda: (came := answer(node, path)) is not None
                             and why in came.data.get("detail", "") and came,
                             what=f"{path} is refused: {why}")
        assert (refused.status, refused["code"], refused["outcome"]) == (503, "unavailable", "not_done")
    for path in ("/health", "/readyz"):
        health = node.get(path)
        assert health.status == 503 and why in health["reason"], health
    assert node.get("/livez").status == 200


def assert_taken(node, paths=tuple(CALLS)):
    for path in paths:
        wait_until(lambda: answer(node, path).status == 200, what=f"{path} is taken")
    health = wait_until(lambda: (came := node.get("/health")).status == 200 and came)
    assert "reason" not in health.data


def test_a_redis_that_evicts_is_refused(store):
    with Redis(maxmemory_policy="allkeys-lru") as redis, \
            Cluster(size=1, flags=engine(redis, query="check-ms=200")) as cluster:
        node = cluster["n1"]
        assert_refused(node, "noeviction")
        assert set(redis("KEYS", "*")) <= {"rukun:meta"}
        # What a person changes is seen, with all connections as they are.
        redis("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert_taken(node)
        connects = node.metric("rukun_redis_connects_total")
        redis("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
        assert_refused(node, "volatile-ttl")
        assert node.metric("rukun_redis_connects_total") == connects


def test_one_master_of_a_cluster_that_evicts_is_enough(store):
    with redis_server.Cluster(replicas=0) as redis:
        evicting, *others = redis.masters()
        evicting("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        flags = ["--engine", "redis", "--redis-url", redis.url(query="check-ms=600000")]
        with Cluster(size=1, flags=flags) as cluster:
            node = cluster["n1"]
            assert_refused(node, evicting.address, ["/cache/put", "/queue/publish", "/lock/acquire"])
            # The others come back last, and say that they keep all.
            connects = node.metric("rukun_redis_connects_total")
            for master in others:
                master("CLIENT", "KILL", "TYPE", "normal")
            wait_until(lambda: node.metric("rukun_redis_connects_total") >= connects + 2
                       and node.metric("rukun_redis_up") == 1, what="they are connected again")
            assert_refused(node, evicting.address, ["/cache/put", "/queue/publish", "/lock/acquire"])
            evicting("CONFIG", "SET", "maxmemory-policy", "noeviction")
            evicting("CLIENT", "KILL", "TYPE", "normal")
            assert_taken(node, ["/cache/put", "/queue/publish", "/lock/acquire"])


def durability(node):
    """As a metric, in stats and in the map, which must agree: wait, aof, fsync."""
    info = [line for line in node.get("/metrics").body.decode().splitlines()
            if line.startswith("rukun_redis_durability_info{")]
    assert len(info) == 1 and info[0].endswith("} 1")
    labels = dict(re.findall(r'(\w+)="(\w*)"', info[0]))
    text = "redis " + " ".join(f"{name}={labels[name]}" for name in ("wait", "aof", "fsync"))
    for path in ("/queue/stats", "/cache/stats"):
        assert node.post(path, {})["durability"] == text
    assert node.map()["durability"] == text
    return labels["wait"], labels["aof"], labels["fsync"]


def test_what_redis_promises_is_named(store):
    with Redis(aof=True) as redis, Redis(replicaof=f"127.0.0.1 {redis.port}"), \
            Cluster(size=1, flags=engine(redis, query="wait=1&check-ms=200")) as cluster:
        node = cluster.wait_ready()["n1"]
        assert durability(node) == ("1", "yes", "always")
        redis("CONFIG", "SET", "appendfsync", "everysec")
        wait_until(lambda: "everysec" in node.map()["durability"], what="it is seen")
        assert durability(node) == ("1", "yes", "everysec")
        redis("CONFIG", "SET", "appendonly", "no")
        wait_until(lambda: "aof=no" in node.map()["durability"], what="it is seen")
        assert durability(node) == ("1", "no", "none")
        redis.kill()
        wait_until(lambda: "aof=unknown" in node.map()["durability"], what="nobody can tell")


def test_a_cluster_promises_what_the_weakest_master_does(store):
    with redis_server.Cluster(replicas=0, aof=True) as redis:
        redis.masters()[1]("CONFIG", "SET", "appendfsync", "everysec")
        flags = ["--engine", "redis", "--redis-url", redis.url(query="check-ms=200")]
        with Cluster(size=1, flags=flags) as cluster:
            node = cluster.wait_ready()["n1"]
            assert durability(node) == ("0", "yes", "everysec")
            redis.masters()[2]("CONFIG", "SET", "appendonly", "no")
            wait_until(lambda: "aof=no" in node.map()["durability"], what="it is seen")
            assert durability(node) == ("0", "no", "none")


def test_a_policy_that_may_not_be_read_is_warned_of(store):
    with Redis(maxmemory_policy="allkeys-lru") as redis:
        redis("ACL", "SETUSER", "me", "on", ">pw", "~*", "&*", "+@all", "-info", "-config")
        url = redis.url().replace("redis://", "redis://me:pw@")
        with Cluster(size=1, flags=["--engine", "redis", "--redis-url", url]) as cluster:
            cluster.wait_ready()
            assert_taken(cluster["n1"], ["/cache/put", "/queue/publish", "/lock/acquire"])
            assert "maxmemory-policy may not be read" in cluster["n1"].log_text()
            assert durability(cluster["n1"]) == ("0", "unknown", "unknown")


def test_another_cluster_s_data_is_refused(store):
    with Redis() as redis, Cluster(size=1, flags=engine(redis)) as first:
        first.wait_ready()
        call(first["n1"], "put", k="a", v="theirs")
        position = call(first["n1"], "get", k="a").headers["Rukun-Position"]
        with Cluster(size=1, flags=engine(redis)) as second:
            node = second["n1"]
            assert_refused(node, "another prefix")
            refused = node.post("/cache/get", {"k": "a", "consistency": "local"},
                                headers={"Rukun-Position": position})
            assert refused.status == 503 and "another prefix" in refused["detail"]
        assert call(first["n1"], "get", k="a")["value"] == "theirs"
        assert redis("EXISTS", "cache:settings", "cache:{n}", "q:{t}:msg") == 0


def test_a_migration_that_is_not_finished_is_refused(store):
    with Redis() as redis:
        redis("HSET", "rukun:meta", "format", 1, "cluster", "(migration not finished)", "history", 7)
        redis("HSET", "cache:{a}", "value", 1, "encoding", "json", "version", 1)
        with Cluster(size=1, flags=engine(redis)) as cluster:
            assert_refused(cluster["n1"], "being moved there")
            assert redis("HGET", "cache:{a}", "value") == "1"
            redis("HDEL", "rukun:meta", "cluster")
            assert_taken(cluster["n1"], ["/cache/get", "/queue/publish", "/lock/acquire"])
            assert call(cluster["n1"], "get", k="a")["value"] == 1


def test_others_that_come_later_are_noticed(store):
    """Redis is emptied and taken by another cluster, while the connections live."""
    with Redis() as redis, Cluster(size=1, flags=engine(redis, query="check-ms=200")) as cluster:
        cluster.wait_ready()
        node = cluster["n1"]
        call(node, "put", k="a", v=1)
        connection = redis.connect()
        connection.send("MULTI")
        connection.send("FLUSHALL")
        connection.send("HSET", "rukun:meta", "format", 1, "cluster", "others", "history", 7)
        connection.send("EXEC")
        assert [connection.read() for _ in range(4)][-1] == ["OK", 3]
        connection.close()
        assert_refused(node, "others", ["/cache/get", "/cache/put"])


def test_a_full_redis_refuses_and_loses_nothing(store):
    with Redis(maxmemory="3mb") as redis, Cluster(size=1, flags=engine(redis)) as cluster:
        cluster.wait_ready()
        node = cluster["n1"]
        kept = 0
        while True:
            answer = node.post("/cache/put", {"k": f"k{kept}", "v": "v" * 20000})
            if answer.status != 200:
                break
            kept += 1
        assert (answer.status, answer["code"], answer["outcome"]) == (507, "full", "not_done")
        for number in range(kept):
            assert call(node, "get", k=f"k{number}")["found"] is True
        assert call(node, "delete", k="k0")["deleted"] is True, "what makes room is taken"


def test_a_prefix_keeps_two_clusters_apart(store):
    with Cluster(size=1, flags=engine(store, query="prefix=one/")) as one, \
            Cluster(size=1, flags=engine(store, query="prefix=two/")) as two:
        one.wait_ready()
        two.wait_ready()
        call(one["n1"], "put", k="same", v=1)
        assert call(two["n1"], "get", k="same")["found"] is False
        assert store("HGET", "one/cache:{same}", "value") == "1"
        call(two["n1"], "put", k="same", v=2)
        assert call(one["n1"], "invalidate")["count"] == 1
        assert call(two["n1"], "get", k="same")["value"] == 2
