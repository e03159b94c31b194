"""Locks, queues and caches of the redis engine under faults of Redis, of nodes and of the
network between them: histories as in tests/cluster, checked by the same checkers.

Redis syncs at every write here, so what it answered survives its kills: nothing may be lost.
Where it does lose something, histories of queues and caches end there and new ones begin; locks
go on over it. RUKUN_SECONDS and RUKUN_SEED set the length of the slow runs and the dice."""

import os
import pathlib
import sys
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

import faults  # noqa: E402
import history  # noqa: E402
import load  # noqa: E402
import redis_server  # noqa: E402
import stores  # noqa: E402
from redis_server import Redis, Sentinels, wait_until  # noqa: E402
from rukun_cluster import Cluster  # noqa: E402

SEED = int(os.environ.get("RUKUN_SEED", "1"))
LONG = float(os.environ.get("RUKUN_SECONDS", "60"))
HOLD_MS = 3000  # the longest lease of the workers
KINDS = ("lock", "queue", "reg", "counter")


class Run(faults.Run):
    """A run over a Redis that takes part in it."""

    def __init__(self, cluster, redis, seed=SEED):
        super().__init__(cluster, seed)
        self.redis = redis

    def await_done(self, count, timeout=40):
        """Until that many more calls of each kind were answered with ok."""
        since = time.monotonic_ns()

        def done():
            lines = [line for line in self.recorder.lines
                     if line.get("out") == "ok" and line["start"] > since]
            counts = {kind: sum(line["type"] == kind for line in lines) for kind in KINDS}
            return all(value >= count for value in counts.values())

        wait_until(done, timeout, f"{count} calls of each kind are done", pause=0.2)


class LossRun(Run):
    """Redis loses data meanwhile. Topics and keys get new names after each loss: one history of
    them ends with it, and the next one begins."""

    def __init__(self, cluster, redis, seed=SEED):
        super().__init__(cluster, redis, seed)
        self.losses = []
        self.rename()

    def rename(self):
        age = len(self.losses)
        self.topics[:] = [f"topic-{n}.{age}" for n in range(len(self.topics))]
        self.counters[:] = [f"counter-{n}.{age}" for n in range(len(self.counters))]
        for n, keys in enumerate(self.keys):
            keys.prefix = f"key-{n}.{age}/"

    def lose(self, what, act, is_certain=True):
        """act makes Redis forget, by the time it returns; or perhaps nothing."""
        before = self.regresses()
        self.note(what)
        self.losses.append(time.monotonic_ns())
        act()
        if is_certain:
            wait_until(lambda: self.regresses() > before, what="the loss is noticed")
        self.cluster.wait_ready()
        self.rename()
        load.configure_topics(self.cluster, self.topics)
        self.await_done(20)
        self.note("heal: all goes on")

    def regresses(self):
        return sum(node.metric("rukun_store_regresses_total") for node in self.cluster)

    def is_of(self, line, age):
        """Whether a line is of the queues and caches between two losses."""
        if line["type"] not in ("queue", "reg", "counter"):
            return False
        return line["res"].split("/")[0].endswith(f".{age}")

    def check(self, lines):
        wrong = history.check_locks(lines) + history.check_ids(lines) + \
            history.check_leaders(lines)
        for age, when in enumerate([*self.losses, history.NEVER]):
            some = history.before([line for line in lines if self.is_of(line, age)], when)
            assert len(some) > 50, f"only {len(some)} calls after loss {age}"
            wrong += history.check_queues(some) + history.check_registers(some) + \
                history.check_counters(some)
        return wrong

    def same_everywhere(self):
        """Copies of what was lost may be left where they were read."""


def engine(redis, **options):
    return ["--engine", "redis", "--redis-url", redis.url(**options)]


@pytest.fixture
def over():
    """Makes clusters over one Redis each: over() -> (cluster, redis)."""
    made = []

    def make(**options):
        redis = Redis(aof=True, **options)
        made.append(redis)
        cluster = Cluster(flags=[*engine(redis), "--redis-hold-ms", str(HOLD_MS)])
        made.append(cluster)
        return cluster.wait_ready(), redis

    yield make
    for one in reversed(made):
        one.close()


# What happens to Redis


def kill_redis(run):
    run.note("kill -9 redis")
    run.redis.kill()
    run.sleep(0.2, 1)
    run.note("heal: start redis")
    run.redis.start()
    run.cluster.wait_ready()


def pause_redis(run):
    run.note("SIGSTOP redis")
    run.redis.pause()
    run.sleep(0.5, 2.5)
    run.note("heal: SIGCONT redis")
    run.redis.resume()
    run.cluster.wait_ready()


def client_pause(run):
    run.note("CLIENT PAUSE")
    run.redis("CLIENT", "PAUSE", 1000, run.rng.choice(("WRITE", "ALL")))
    run.sleep(1.2)
    run.note("heal: unpaused")


def debug_sleep(run):
    run.note("DEBUG SLEEP")
    with run.redis.connect(timeout=30) as connection:
        connection("DEBUG", "SLEEP", "1.5")
    run.note("heal: awake")


def script_flush(run):
    run.note("SCRIPT FLUSH")
    run.redis("SCRIPT", "FLUSH")
    run.sleep(0.2)
    run.note("heal: nothing to do")


def cut_connections(run):
    run.note("CLIENT KILL of all, again and again")
    for _ in range(6):
        for kind in ("normal", "pubsub"):
            run.redis("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        run.sleep(0.05, 0.3)
    run.note("heal: left alone")


def full_memory(run):
    """maxmemory is reached: what needs room is refused, what gives it back is not."""
    run.note("maxmemory")
    run.redis("CONFIG", "SET", "maxmemory", run.rng.choice((1, run.redis.info("used_memory"))))
    run.sleep(1, 2)
    assert run.redis.error_count("OOM") > 0, "nothing was refused"
    run.note("heal: maxmemory lifted")
    run.redis("CONFIG", "SET", "maxmemory", 0)
    run.cluster.wait_ready()
    run.await_done(20)


def test_redis_dies_and_comes_back(over):
    with Run(*over()) as run:
        run.repeat(8, kill_redis, cut_connections).finish(faults=2)


def test_memory_is_full(over):
    """Calls are refused as a whole, and nothing is lost."""
    with Run(*over()) as run:
        run.repeat(4, full_memory).finish(faults=1)


@pytest.mark.slow
def test_redis_stalls(over):
    with Run(*over()) as run:
        run.repeat(8, pause_redis, client_pause, debug_sleep, script_flush).finish(faults=4)


@pytest.mark.slow
def test_nodes_die_and_sleep(over):
    with Run(*over()) as run:
        run.repeat(10, faults.kill_leader, faults.pause_leader, faults.kill_all,
                   faults.stop_one).finish(faults=4)


@pytest.mark.slow
@pytest.mark.parametrize("way", [
    (kill_redis, pause_redis, cut_connections, client_pause, debug_sleep, script_flush,
     full_memory),
    (faults.kill_leader, kill_redis, faults.pause_leader, pause_redis, faults.kill_all)],
    ids=["redis", "both"])
def test_long(over, way):
    with Run(*over()) as run:
        run.repeat(LONG, *way).finish(faults=8)


# What Redis loses


def flush_all(run):
    run.lose("FLUSHALL", lambda: run.redis("FLUSHALL"))


def restart_empty(run):
    run.lose("restart without data", run.redis.restart_empty)


def power_loss(run):
    """With appendfsync everysec the last second may not be on the disk yet."""
    run.redis("CONFIG", "SET", "appendfsync", "everysec")
    size = run.redis.log_size()
    run.sleep(1)
    assert run.redis.log_size() > size
    run.lose("power lost, and a second with it", lambda: run.redis.restart_with(size))


def kill_unsynced(run):
    """Only the process dies: what it wrote stays, synced or not."""
    run.redis("CONFIG", "SET", "appendfsync", "everysec")
    kill_redis(run)


def stale_replica(run):
    """A replica that was cut off takes the place of its master."""
    with replica_of(run.redis) as replica:
        replica("REPLICAOF", "NO", "ONE")
        run.sleep(1)
        run.lose("a stale replica is promoted", lambda: run.redis.become(replica))


def replica_of(redis):
    replica = Redis(aof=True, replicaof=f"127.0.0.1 {redis.port}")
    try:
        wait_until(lambda: replica.info("master_link_status") == "up", what="replication")
        wait_until(lambda: replica.info("aof_rewrite_in_progress") == "0" and
                   replica.info("aof_rewrite_scheduled") == "0", what="its log is whole")
    except BaseException:
        replica.close()
        raise
    return replica


def fence_of(node, owner):
    answer = wait_until(lambda: (one := node.post("/lock/acquire", {
        "resource": "over-it-all", "owner": owner})).status == 200 and one, what="a grant")
    assert node.post("/lock/release", {"resource": "over-it-all", "owner": owner}).status == 200
    return answer["fence"]


def publish(node, data, topic="t"):
    answer = node.post("/queue/publish", {"topic": topic, "data": data})
    assert answer.status == 200, answer
    return answer["id"]


def consume(node, topic="t", **fields):
    answer = node.post("/queue/consume", {"topic": topic, "visibility_ms": 600000, **fields})
    assert answer.status == 200, answer
    return answer


def test_redis_forgets(over):
    with LossRun(*over()) as run:
        run.repeat(1, flush_all, restart_empty).finish(faults=2)


def test_what_is_new_after_a_loss_is_known_at_every_node(over):
    """Nobody told the nodes, and they had asked whose data Redis holds just before."""
    cluster, redis = over()
    for node in cluster:
        for topic in ("a", "b"):
            publish(node, 1, topic)
            assert node.post("/queue/ack", {"id": consume(node, topic)["id"]}).status == 200
    for age in range(3):
        redis("FLUSHALL")
        topic = f"new-{age}"
        for node in cluster:
            publish(cluster["n1"], 1, topic)
            answer = node.post("/queue/ack", {"id": consume(node, topic)["id"]})
            assert answer.status == 200, f"{node}: {answer}"


@pytest.mark.parametrize("before", ["add", "publish"])
def test_a_loss_while_a_topic_is_made(before):
    """Between a node's questions (whose data are these, under which number is the topic listed)
    and what it has made of the answers: nothing of before the loss goes into what comes to be."""
    with Redis(aof=True) as redis, redis_server.Tap(redis) as tap, \
            Cluster(flags=["--engine", "redis", "--redis-url", tap.url()]) as cluster:
        cluster.wait_ready()
        for node in cluster:
            publish(node, 1, "old")
            assert node.post("/queue/ack", {"id": consume(node, "old")["id"]}).status == 200
        seen = []

        def lose(data):
            ops = [op for op in ("add", "publish") if f"\r\n{op}\r\n".encode() in data]
            if b"\r\nnew-made\r\n" not in data or "lost" in seen:
                return
            seen.extend(ops)
            if before in ops and "add" in seen:
                redis("FLUSHALL")
                seen.append("lost")

        tap.before = lose
        publish(cluster["n1"], 1, "new-made")
        tap.before = lambda data: None
        assert "lost" in seen, seen
        assert redis("HGET", "{q:topics}", "new-made"), "it is listed"
        publish(cluster["n2"], 1, "newer")  # asks again whose data Redis holds
        publish(cluster["n3"], 1, "new-made")
        for node in (cluster["n1"], cluster["n3"]):
            answer = node.post("/queue/ack", {"id": consume(cluster["n2"], "new-made")["id"]})
            assert answer.status == 200, f"{node}: {answer}"


@pytest.mark.slow
def test_redis_forgets_some(over):
    with LossRun(*over()) as run:
        run.repeat(LONG / 2, power_loss, stale_replica, flush_all, restart_empty).finish(faults=4)


@pytest.mark.slow
def test_redis_dies_unsynced(over):
    with Run(*over()) as run:
        run.repeat(10, kill_unsynced).finish(faults=3)


def test_a_stale_replica_takes_over(over):
    """What it has not heard of never happened, and none of its names is given again."""
    cluster, redis = over()
    here, there, third = cluster
    with replica_of(redis) as replica:
        ids = [publish(here, name) for name in ("acked", "held")]
        old = here.post("/cache/put", {"k": "k", "v": "old"})["version"]
        fence = fence_of(there, "a")
        wait_until(lambda: replica("HLEN", "q:{t}:msg") == 2 and
                   replica("HGET", "cache:{k}", "version") == str(old) and
                   replica.info("master_repl_offset") == redis.info("master_repl_offset"),
                   what="the replica has it all")
        replica("REPLICAOF", "NO", "ONE")
        acked, held = consume(there), consume(third)
        assert there.post("/queue/ack", {"id": acked["id"]}).status == 200
        ids += [publish(third, "lost"), publish(here, "lost, too")]
        lost = consume(here)
        new = there.post("/cache/put", {"k": "k", "v": "new"})["version"]
        assert there.post("/cache/put", {"k": "only", "v": 1}).status == 200
        latest = fence_of(there, "b")
        assert latest > fence and new > old
        redis.become(replica)
        cluster.wait_ready()

        got = wait_until(lambda: (one := here.post("/cache/get", {
            "k": "k", "consistency": "linearizable"})).status == 200 and one, what="an answer")
        assert got["value"] == "old" and got["version"] == old
        assert not there.post("/cache/get", {"k": "only", "consistency": "linearizable"})["found"]
        assert third.post("/cache/put", {"k": "k", "v": "newer"})["version"] > new
        ids += [publish(node, "after") for node in cluster for _ in range(4)]
        assert len(set(ids)) == len(ids), "an id came twice"
        answer = here.post("/queue/ack", {"id": lost["id"]})
        assert answer.status == 409 and answer["code"] in ("gone", "stale_delivery"), answer
        came = {ids.index(message["message_id"]): message["message"]
                for message in consume(here, max=100)["messages"]}
        expected = {0: "acked", 1: "held"} | {n: "after" for n in range(4, len(ids))}
        assert came == expected, "what the replica had comes, again where it had come"
        assert there.post("/queue/ack", {"id": held["id"]}).status in (200, 409)
        assert fence_of(there, "c") > latest


# What happens to the network


@pytest.fixture
def net():
    """Nodes in namespaces of their own; Redis on this machine's end of their network."""
    faults.need_network()
    made = []

    def make():
        nodes = faults.NetCluster(flags=["--engine", "redis", "--redis-url", "redis://unset"],
                                  start=False)
        made.append(nodes)
        redis = Redis(aof=True, bind=f"{nodes.net}.254 127.0.0.1", protected_mode="no")
        made.append(redis)
        nodes.flags[nodes.flags.index("redis://unset")] = f"redis://{nodes.net}.254:{redis.port}"
        nodes.start()
        return nodes.wait_ready(), redis

    yield make
    for one in made:
        one.close()


def cut_from_redis(run, nodes, what, way="INPUT"):
    """INPUT: Redis hears the nodes, and its answers are lost. OUTPUT: it hears nothing."""
    run.note(f"cut {what} from redis, {way}")
    peer, port = ("-s", "--sport") if way == "INPUT" else ("-d", "--dport")
    for node in nodes:
        run.cluster.iptables(node, "-A", way, peer, f"{run.cluster.net}.254", "-p", "tcp", port,
                             str(run.redis.port), "-j", "DROP")
    run.sleep(1.5, 3)
    run.note(f"heal: {run.cluster.dropped()} packets dropped")
    assert run.cluster.dropped() > 0
    run.cluster.heal()
    run.cluster.wait_ready()


def cut_leader_from_redis(run):
    cut_from_redis(run, [run.leader(0)], "the leader")


def cut_follower_from_redis(run):
    """It decides no locks, and serves queues and caches as the others do."""
    leader = run.leader(0)
    node = run.rng.choice([one for one in run.cluster.nodes if one is not leader])
    cut_from_redis(run, [node], f"the follower {node}", run.rng.choice(("INPUT", "OUTPUT")))


def cut_all_from_redis(run):
    cut_from_redis(run, run.cluster.nodes, "all nodes", run.rng.choice(("INPUT", "OUTPUT")))


def test_cuts(net):
    """Of nodes from Redis, and of nodes from each other while all of them reach Redis."""
    with Run(*net()) as run:
        run.repeat(1, cut_leader_from_redis, faults.cut_leader, cut_all_from_redis,
                   faults.cut_halves, cut_follower_from_redis).finish(faults=5)


@pytest.mark.slow
def test_long_cuts(net):
    with Run(*net()) as run:
        run.repeat(LONG, cut_leader_from_redis, faults.cut_leader, cut_follower_from_redis,
                   faults.cut_hearing, cut_all_from_redis, faults.cut_speaking, faults.cut_bridge,
                   faults.flap_link, kill_redis).finish(faults=9)


# Another server takes over


def fail_over(run):
    """The master dies; a replica that has all that was answered takes over."""
    old = run.redis.master()
    run.note(f"kill -9 of the master {old.address}")
    old.kill()
    run.redis.wait_failover(old)
    run.await_done(50)
    run.note("heal: start the old master")
    old.start()
    run.cluster.wait_ready()


def fail_over_whole(run):
    fail_over(run)
    run.redis.wait_whole()


def order_failover(run):
    """By SENTINEL FAILOVER, after writes were stopped: none is lost."""
    old = run.redis.master()
    run.note("SENTINEL FAILOVER")
    run.redis.order_failover()
    run.redis.wait_failover(old)
    run.await_done(50)
    run.redis.wait_whole()
    run.note("heal: the old master is a replica")
    run.cluster.wait_ready()


def careless_failover(run):
    """Nobody stopped the old master: for a while it takes writes that are lost, although the
    replica that was not chosen has them."""
    old = run.redis.master()

    def act():
        run.redis.order_failover(is_careful=False)
        run.redis.wait_failover(old)
        run.redis.wait_whole()

    run.lose("SENTINEL FAILOVER, carelessly", act, is_certain=False)


@pytest.fixture
def group():
    """Over a Sentinel group; a write that was answered is one that a replica has."""
    with Sentinels(aof=True) as servers:
        flags = engine(servers, query="wait=1&wait-ms=4000")
        with Cluster(flags=[*flags, "--redis-hold-ms", str(HOLD_MS)]) as cluster:
            yield cluster.wait_ready(), servers


def test_sentinel_fails_over(group):
    with Run(*group) as run:
        run.repeat(1, fail_over).finish(faults=1)


@pytest.mark.slow
def test_sentinel_fails_over_again_and_again(group):
    with Run(*group) as run:
        run.repeat(LONG, order_failover, fail_over_whole).finish(faults=2)


@pytest.mark.slow
def test_sentinel_loses_writes(group):
    with LossRun(*group) as run:
        run.repeat(1, careless_failover).finish(faults=1)


# Slots move


@pytest.mark.slow
def test_slots_move():
    """Those of the locks, of the topics and of what is in use, key by key, all the time."""
    with redis_server.Cluster(node_timeout_ms=15000) as servers:
        with Cluster(flags=engine(servers)) as cluster:
            with Run(cluster.wait_ready(), servers) as run:
                moves = stores.Moves(servers, lambda: "")
                try:
                    run.note("slots move")
                    wait_until(lambda: moves.error or not moves.missing() and
                               min(moves.counts.values()) >= 5, 60, "slots were moved")
                    run.note("heal: slots stay")
                finally:
                    moves.close()
                assert moves.error is None, repr(moves.error)
                print(moves.counts)
                figures = run.finish(faults=1, share=0.9)
                assert figures["fail"] == figures["unknown"] == 0, "calls noticed it"
