"""Locks and sessions of three real nodes, kept in a real Redis that dies, forgets and stalls."""

import os
import pathlib
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

import history  # noqa: E402
import load  # noqa: E402
import redis_server  # noqa: E402
from redis_server import Redis, wait_until  # noqa: E402
from rukun_cluster import Cluster, RpcError  # noqa: E402

HOLD_MS = 3000


@pytest.fixture
def store():
    with Redis(aof=True) as server:
        yield server


def make(store, *flags, query=""):
    return Cluster(flags=["--engine", "redis", "--redis-url", store.url(query=query),
                          "--redis-hold-ms", str(HOLD_MS), *flags])


@pytest.fixture
def cluster(store):
    with make(store) as nodes:
        nodes.wait_ready()
        yield nodes


def acquire(node, resource, owner, **more):
    return node.post("/lock/acquire", {"resource": resource, "owner": owner, **more})


def fence_of(answer):
    assert answer.status == 200, answer
    return answer["fence"]


def holds(node, resource, owner):
    return node.post("/lock/check", {"resource": resource, "owner": owner})["held"]


def others(cluster, node):
    return [one for one in cluster if one is not node]


def regresses(cluster):
    return sum(node.metric("rukun_store_regresses_total") for node in cluster.running())


def granted_again(node, resource, owner, timeout=15):
    """The first grant after grants were held back."""
    found = []

    def check():
        answer = acquire(node, resource, owner)
        found[:] = [answer]
        return answer.status == 200

    wait_until(check, timeout=timeout, what=f"{resource} is granted to {owner}", pause=0.2)
    return found[0]["fence"]


def meta(store):
    fields = store("HGETALL", "rukun:{lock}:meta")
    return dict(zip(fields[::2], fields[1::2]))


def test_redis_cli_shows_locks(cluster, store):
    fence = fence_of(acquire(cluster["n1"], "orders/{42}:x", "alice", lease_ms=60000))
    key = "{lock}:orders/%7B42%7D%3Ax"
    fields = store("HGETALL", key)
    shown = dict(zip(fields[::2], fields[1::2]))
    assert shown["mode"] == "exclusive" and shown["owner"] == "alice"
    assert int(shown["fence"]) == fence and shown["lease_ms"] == "60000"
    assert store("LRANGE", key + ":owners", 0, -1) == ["alice"]
    waiter = threading.Thread(target=acquire, args=(cluster["n2"], "orders/{42}:x", "bob"),
                              kwargs={"wait_ms": 20000})
    waiter.start()
    wait_until(lambda: store("LRANGE", key + ":waiters", 0, -1) == ["bob"], what="bob waits")
    assert cluster["n3"].post("/lock/release", {"resource": "orders/{42}:x",
                                                "owner": "alice"}).status == 200
    waiter.join()
    assert store("LRANGE", key + ":owners", 0, -1) == ["bob"]
    assert store("LRANGE", key + ":waiters", 0, -1) == []
    assert cluster["n1"].post("/lock/release", {"resource": "orders/{42}:x",
                                                "owner": "bob"}).status == 200
    assert store("KEYS", "{lock}:*") == [], "a free lock leaves nothing"
    for owner in ("r1", "r2"):
        assert acquire(cluster["n1"], "shared", owner, mode="shared").status == 200
    assert store("LRANGE", "{lock}:shared:owners", 0, -1) == ["r1", "r2"]


def test_locks_outlive_leaders(cluster, store):
    fence = fence_of(acquire(cluster["n1"], "kept", "alice", lease_ms=600000))
    for round in range(2):
        leader = cluster.leader()
        leader.kill()
        other = others(cluster, leader)[0]
        assert holds(other, "kept", "alice")
        assert acquire(other, "kept", "bob").status == 409
        next_fence = fence_of(acquire(other, f"new{round}", "bob"))
        assert next_fence > fence
        fence = next_fence
        leader.start()
        cluster.wait_ready()
    assert regresses(cluster) == 0


def test_locks_outlive_redis(cluster, store):
    """With appendfsync always a killed Redis has everything, and nothing is held back."""
    fence = fence_of(acquire(cluster["n1"], "kept", "alice", lease_ms=600000))
    store.kill()
    answer = acquire(cluster["n2"], "away", "carol", wait_ms=0)
    assert answer.status in (503, 504), answer
    assert cluster.leader().get("/health").status == 503
    store.start()
    cluster.wait_ready()
    assert holds(cluster["n1"], "kept", "alice")
    assert fence_of(acquire(cluster["n3"], "after", "carol")) > fence
    assert regresses(cluster) == 0


@pytest.mark.parametrize("how", ["flushall", "empty"])
def test_a_living_leader_writes_back(cluster, store, how):
    fence = fence_of(acquire(cluster["n1"], "kept", "alice", lease_ms=600000))
    if how == "flushall":
        store("FLUSHALL")
    else:
        store.kill()
        for path in store.folder.glob("appendonlydir/*"):
            path.unlink()
        store.start()
    wait_until(lambda: regresses(cluster) == 1, what="the loss is noticed")
    wait_until(lambda: store("EXISTS", "{lock}:kept") == 1, what="it is written back")
    cluster.wait_ready()
    assert holds(cluster["n2"], "kept", "alice")
    assert acquire(cluster["n2"], "kept", "bob").status in (409, 503)
    answer = acquire(cluster["n3"], "other", "bob")
    assert answer.status == 503 and answer["outcome"] == "not_done", answer
    assert granted_again(cluster["n3"], "other", "bob") > fence
    leader = cluster.leader()
    leader.kill()
    assert holds(others(cluster, leader)[0], "kept", "alice")


def lose_leader_and_data(cluster, store):
    """The leader neither notices nor has a successor before all is gone; returns it, dead."""
    leader = cluster.leader()
    leader.pause()
    store("FLUSHALL")
    leader.kill()
    return leader


def test_leader_and_data_go_together(cluster, store):
    fence = fence_of(acquire(cluster["n1"], "lost", "alice", lease_ms=600000))
    leader = lose_leader_and_data(cluster, store)
    other = others(cluster, leader)[0]
    began = time.monotonic()
    assert granted_again(other, "lost", "bob") > fence
    assert time.monotonic() - began > HOLD_MS / 1000 - 1, "grants were held back"
    assert regresses(cluster) == 1


def test_a_hold_outlives_its_leader(cluster, store):
    """The next leader finds a store that lacks nothing any more, and holds grants back all the same."""
    fence = fence_of(acquire(cluster["n1"], "lost", "alice", lease_ms=600000))
    first = lose_leader_and_data(cluster, store)
    second = wait_until(lambda: next((node for node in others(cluster, first)
                                      if node.metric("rukun_store_keeping")), None), what="a leader")
    assert second.metric("rukun_store_holding") == 1
    wait_until(lambda: store("EXISTS", "rukun:{lock}:records") == 1, what="it wrote")
    first.start()
    wait_until(first.is_ready, what="the first one is back")
    assert second.metric("rukun_store_holding") == 1, "it took too long to be of use"
    second.kill()
    began = time.monotonic()
    assert granted_again(first, "lost", "bob") > fence
    assert time.monotonic() - began > HOLD_MS / 1000, "grants were held back"
    assert regresses(cluster) == 0, "the last leader saw no loss"


def test_claims_that_are_done_late_hide_no_loss(cluster, store):
    """Redis stalls while the next leader asks for it, so that its claims come in a row."""
    fence = fence_of(acquire(cluster["n1"], "lost", "alice", lease_ms=600000))
    leader = cluster.leader()
    leader.pause()
    store("FLUSHALL")
    store.pause()
    leader.kill()
    left = others(cluster, leader)
    said = "the store does not do its work"
    wait_until(lambda: any(said in node.log_text() for node in left), timeout=30,
               what="a claim that is given up")
    began = time.monotonic()
    store.resume()
    assert granted_again(left[0], "lost", "bob") > fence
    assert time.monotonic() - began > HOLD_MS / 1000 - 1, "grants were held back"
    assert regresses(cluster) == 1


def test_a_stale_replica_takes_over(cluster, store):
    with Redis(aof=True, replicaof=f"127.0.0.1 {store.port}") as replica:
        wait_until(lambda: replica.info("master_link_status") == "up", what="replication")
        wait_until(lambda: replica.info("aof_rewrite_in_progress") == "0" and
                   replica.info("aof_rewrite_scheduled") == "0", what="its file is whole")
        fence_of(acquire(cluster["n1"], "old", "alice", lease_ms=600000))
        wait_until(lambda: replica("EXISTS", "{lock}:old") == 1, what="it is replicated")
        replica("REPLICAOF", "NO", "ONE")
        fence = fence_of(acquire(cluster["n1"], "new", "alice", lease_ms=600000))
        # It comes back in the place of the old one.
        leader = cluster.leader()
        store.kill()
        leader.kill()
        port, folder = store.port, replica.folder
        replica.kill()
        store.folder, replica.folder = folder, store.folder
        config = (replica.folder / "redis.conf").read_text()
        (folder / "redis.conf").write_text(
            config.replace(str(replica.folder), str(folder)))
        store.config = folder / "redis.conf"
        assert f"port {port}" in store.config.read_text()
        store.start()
        other = others(cluster, leader)[0]
        assert granted_again(other, "new", "bob", timeout=30) > fence
        assert regresses(cluster) == 1
        assert holds(other, "old", "alice")


def test_scripts_and_stalls(cluster, store):
    fence = fence_of(acquire(cluster["n1"], "a", "alice"))
    store("SCRIPT", "FLUSH")
    fence_next = fence_of(acquire(cluster["n2"], "b", "alice"))
    assert fence_next > fence
    store("CLIENT", "PAUSE", 1500, "WRITE")
    fence = fence_of(acquire(cluster["n3"], "c", "alice"))
    assert fence > fence_next
    sleeper = threading.Thread(target=store, args=("DEBUG", "SLEEP", 3))
    sleeper.start()
    time.sleep(0.2)
    # Longer than a try: the same batch again, and once.
    assert fence_of(acquire(cluster["n1"], "d", "alice")) == fence + 1
    sleeper.join()
    assert regresses(cluster) == 0


def addresses(store, lines, node):
    """From where the node talks, or talked: as Redis lists it, and as it gave its name."""
    name = f"rukund-{node.name}"
    listed = {line.split("addr=")[1].split()[0] for line in store("CLIENT", "LIST").splitlines()
              if f"name={name} " in line}
    named = {line.split("]")[0].split()[-1] for line in lines
             if "SETNAME" in line.upper() and f'"{name}"' in line}
    return listed | named


def test_a_leader_that_slept_writes_nothing(cluster, store):
    fence_of(acquire(cluster["n1"], "a", "alice", lease_ms=1000))
    old = cluster.leader()
    old.pause()
    other = others(cluster, old)[0]
    wait_until(lambda: acquire(other, "b", "bob").status == 200, what="another one leads")
    before = meta(store)
    with store.connect() as monitor:
        monitor("MONITOR")
        lines = []
        known = addresses(store, lines, old)
        assert known, "it was connected"
        old.resume()
        assert holds(old, "b", "bob"), "it serves calls, by its successor"
        time.sleep(1.5)
        known |= addresses(store, lines, old)
        store("ECHO", "end-of-it")
        while not lines or "end-of-it" not in lines[-1]:
            lines.append(monitor.read())
    # Connections that it made meanwhile are its own as well, those that ended, too.
    known |= addresses(store, lines, old)
    assert any("{lock}" in line and '"EVAL' in line.upper() for line in lines), \
        "its successor looks after the locks"
    asked = [line for line in lines
             if line.split("]")[0].split()[-1] in known and "{lock}" in line]
    assert asked == [], "the old leader asked for locks"
    after = meta(store)
    assert after["term"] == before["term"]


def test_a_full_redis_takes_what_frees(cluster, store):
    node = cluster["n1"]
    fence_of(acquire(node, "held", "alice", lease_ms=600000))
    fence_of(acquire(node, "short", "alice", lease_ms=2000))
    session = node.post("/session/open", {"ttl_ms": 600000})["session"]
    fence_of(acquire(node, "tied", "alice", session=session))
    dying = node.post("/session/open", {"ttl_ms": 2000})["session"]
    fence_of(acquire(node, "dead", "alice", session=dying))
    with cluster["n2"].connect() as rpc:
        cancelled = rpc.send("lock.acquire", resource="held", owner="carol", wait_ms=60000,
                             client="carol", seq=1)
        waits = rpc.send("lock.acquire", resource="held", owner="bob", wait_ms=60000)
        wait_until(lambda: store("LLEN", "{lock}:held:waiters") == 2, what="both wait")
        store("CONFIG", "SET", "maxmemory", 1)
        wait_until(lambda: cluster.leader().metric("rukun_store_full") == 1, what="it is noticed")
        answer = acquire(node, "new", "alice")
        assert answer.status == 507 and answer["outcome"] == "not_done", answer
        assert node.post("/session/open", {"ttl_ms": 2000}).status == 507
        assert node.post("/lock/renew", {"resource": "held", "owner": "alice"}).status == 200
        assert rpc.call("lock.cancel", client="carol", seq=1)["cancelled"]
        with pytest.raises(RpcError, match="cancelled"):
            rpc.wait(cancelled)
        assert node.post("/session/close", {"session": session}).status == 200
        assert node.post("/lock/release", {"resource": "held", "owner": "alice"}).status == 200
        assert rpc.wait(waits)["granted"], "what a release brings is no growth"
        wait_until(lambda: store("KEYS", "{lock}:*") == ["{lock}:held", "{lock}:held:owners"] or
                   store("KEYS", "{lock}:*") == ["{lock}:held:owners", "{lock}:held"],
                   what="leases and sessions end")
    leader = cluster.leader()
    leader.kill()
    other = others(cluster, leader)[0]
    assert holds(other, "held", "bob")
    assert other.post("/lock/release", {"resource": "held", "owner": "bob"}).status == 200
    assert acquire(other, "new", "alice").status == 507
    store("CONFIG", "SET", "maxmemory", 0)
    granted_again(other, "new", "alice")
    assert regresses(cluster) == 0


def test_the_slot_of_locks_moves(tmp_path):
    """It stays in migration under acquires and releases, which wait until it is at rest."""
    with redis_server.Cluster(replicas=0) as store, make(store) as cluster:
        cluster.wait_ready()
        fence_of(acquire(cluster["n1"], "kept", "alice", lease_ms=600000))
        slot = store.slot("{lock}")
        source = store.owner(slot)
        target = next(server for server in store.servers if server is not source)
        recorder = history.Recorder()
        work = load.Load(cluster, recorder, seed=int(os.environ.get("RUKUN_SEED", "1")))
        for name in ("a", "b", "c"):
            work.start(load.lock_worker, work.caller(name), ["lock-1", "lock-2"])

        def grants():
            return sum(line["type"] == "lock" and line["f"] == "acquire" and line["out"] == "ok"
                       for line in list(recorder.lines))

        try:
            wait_until(lambda: grants() > 20, what="grants before")
            # With what a state that was written back in vain leaves, all keys named are there.
            source("HSET", "rukun:{lock}:staging", "x", "y")
            store.begin_move(slot, target)
            leader = cluster.leader()
            wait_until(lambda: leader.metric("rukun_store_up") == 0, what="it is put off")
            before = [source("HGETALL", f"rukun:{{lock}}:{name}") for name in ("meta", "records")]
            time.sleep(3)
            after = [source("HGETALL", f"rukun:{{lock}}:{name}") for name in ("meta", "records")]
            assert after == before, "something was done meanwhile"
            store.move_keys(slot, source, target)
            store.end_move(slot, target)
            count = grants()
            wait_until(lambda: grants() > count + 20, what="grants after")
        finally:
            work.stop()
        assert history.check_locks(recorder.lines) == []
        assert not any("non local key" in node.log_text() for node in cluster)
        leader.kill()
        assert holds(others(cluster, leader)[0], "kept", "alice"), "its records are whole"
        assert regresses(cluster) == 0


def test_foreign_data_is_refused(store):
    with make(store) as first:
        first.wait_ready()
        fence_of(acquire(first["n1"], "theirs", "alice"))
        with make(store) as second:
            node = second["n1"]
            second.leader()
            answer = node.post("/lock/acquire", {"resource": "r", "owner": "bob"},
                               headers={"Rukun-Deadline-Ms": "3000"})
            assert answer.status == 503 and "another prefix" in answer["detail"], answer
        assert holds(first["n1"], "theirs", "alice")
        with make(store, query="prefix=two/") as third:
            third.wait_ready()
            fence_of(acquire(third["n1"], "theirs", "bob"))
            assert store("EXISTS", "two/{lock}:theirs") == 1


def test_sessions_expire_and_free_their_locks(cluster, store):
    session = cluster["n1"].post("/session/open", {"ttl_ms": 1500})["session"]
    fence = fence_of(acquire(cluster["n1"], "tied", "alice", session=session))
    assert store("HGET", "{lock}:tied", "session") == session
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert cluster["n2"].post("/session/keepalive", {"session": session}).status == 200
        time.sleep(0.3)
    assert holds(cluster["n3"], "tied", "alice")
    answer = acquire(cluster["n3"], "tied", "bob", wait_ms=10000)
    assert fence_of(answer) > fence
    assert cluster["n2"].post("/session/keepalive", {"session": session}).status == 410


@pytest.mark.slow
def test_a_session_with_very_many_locks_ends(cluster, store):
    """What becomes of them all at once is more than one command can carry."""
    count, each = 50, 1000
    names = [[{"resource": f"many/{n}/{i}"} for i in range(each)] for n in range(count)]
    with cluster.leader().connect(timeout=120) as rpc:
        session = rpc.call("session.open", ttl_ms=120000)["session"]
        held = [rpc.send("lock.acquire", resources=some, owner="alice", session=session,
                         deadline_ms=100000) for some in names]
        fence = max(rpc.wait(number)["fence"] for number in held)
        waits = [rpc.send("lock.acquire", resources=some, owner=f"bob{n}", wait_ms=100000,
                          lease_ms=600000) for n, some in enumerate(names)]
        last = f"{{lock}}:many/{count - 1}/{each - 1}"
        wait_until(lambda: store("LLEN", last + ":waiters") == 1, timeout=60, what="all wait")
        before = meta(store)
        rpc.call("session.close", session=session, deadline_ms=100000)
        assert all(rpc.wait(number)["fence"] > fence for number in waits)
        assert int(meta(store)["seq"]) >= int(before["seq"]) + 1
    assert store("HLEN", "rukun:{lock}:names") == count * each
    assert store("LRANGE", last + ":owners", 0, -1) == [f"bob{count - 1}"]
    assert store("EXISTS", "rukun:{lock}:staging") == 0
    leader = cluster.leader()
    assert "assertion" not in leader.log_text()
    leader.kill()
    assert holds(others(cluster, leader)[0], "many/0/0", "bob0")
    assert regresses(cluster) == 0


def redis_faults(cluster, store, recorder):
    """One after the other, each with a little time to work in."""
    def restart():
        store.restart()

    def flush_scripts():
        store("SCRIPT", "FLUSH")

    def stall():
        store("CLIENT", "PAUSE", 1000, "ALL")

    def sleep():
        store("DEBUG", "SLEEP", 2.5)

    def silence():
        store.pause()
        time.sleep(1)
        store.resume()

    def flush_all():
        store("FLUSHALL")
        wait_until(lambda: store("EXISTS", "rukun:{lock}:records") == 1, what="written back")

    def kill_leader():
        leader = cluster.leader()
        leader.kill()
        time.sleep(0.5)
        leader.start()

    def pause_leader():
        leader = cluster.leader()
        leader.pause()
        time.sleep(2)
        leader.resume()

    for fault in (flush_scripts, restart, kill_leader, stall, sleep, pause_leader, silence,
                  kill_leader, flush_all):
        recorder.note(fault.__name__)
        fault()
        recorder.note("heal")
        time.sleep(1)


def test_histories_under_faults_of_redis(store, tmp_path):
    with make(store) as cluster:
        cluster.wait_ready()
        recorder = history.Recorder()
        work = load.Load(cluster, recorder, seed=int(os.environ.get("RUKUN_SEED", "1")))
        resources = [f"lock-{n}" for n in range(5)]
        for name, options in (("a", {}), ("b", {"way": "http"}), ("c", {"attempts": 5})):
            work.start(load.lock_worker, work.caller(name, **options), resources)
        work.start(load.session_worker, work.caller("s"), resources)
        try:
            redis_faults(cluster, store, recorder)
            wait_until(lambda: acquire(cluster["n1"], "end", "me").status == 200,
                       what="grants after the last hold")
        finally:
            work.stop()
        path = recorder.save(tmp_path / "history.jsonl")
        wrong = history.check_locks(recorder.lines)
        assert wrong == [], f"{path}: {wrong[:5]}"
        granted = [line for line in recorder.lines
                   if line["type"] == "lock" and line["f"] == "acquire" and line["out"] == "ok"]
        assert len(granted) > 50
