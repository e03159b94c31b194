"""Locks, queues and caches of the redis engine under faults of Redis, of nodes and of the
network between them: histories as in tests/cluster, checked by the same checkers.

Redis syncs at every write here, so what it answered survives its kills: nothing may be lost.
RUKUN_SECONDS and RUKUN_SEED set the length of the slow runs and the dice."""

import os
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

import faults  # noqa: E402
from redis_server import Redis, Sentinels  # noqa: E402
from rukun_cluster import Cluster  # noqa: E402

SEED = int(os.environ.get("RUKUN_SEED", "1"))
LONG = float(os.environ.get("RUKUN_SECONDS", "60"))


class Run(faults.Run):
    """A run over a Redis that takes part in it."""

    def __init__(self, cluster, redis, seed=SEED):
        super().__init__(cluster, seed)
        self.redis = redis


def engine(redis, **options):
    return ["--engine", "redis", "--redis-url", redis.url(**options)]


@pytest.fixture
def over():
    """Makes clusters over one Redis each: over() -> (cluster, redis)."""
    made = []

    def make(**options):
        redis = Redis(aof=True, **options)
        made.append(redis)
        cluster = Cluster(flags=engine(redis))
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


def test_redis_dies_and_comes_back(over):
    with Run(*over()) as run:
        run.repeat(8, kill_redis, cut_connections).finish(faults=2)


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
    (kill_redis, pause_redis, cut_connections, client_pause, debug_sleep, script_flush),
    (faults.kill_leader, kill_redis, faults.pause_leader, pause_redis, faults.kill_all)],
    ids=["redis", "both"])
def test_long(over, way):
    with Run(*over()) as run:
        run.repeat(LONG, *way).finish(faults=8)


# What Redis loses


def publish(node, data, topic="t"):
    answer = node.post("/queue/publish", {"topic": topic, "data": data})
    assert answer.status == 200, answer
    return answer["id"]


def consume(node, topic="t", **fields):
    answer = node.post("/queue/consume", {"topic": topic, "visibility_ms": 600000, **fields})
    assert answer.status == 200, answer
    return answer


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


def cut_from_redis(run, nodes, what):
    run.note(f"cut {what} from redis")
    for node in nodes:
        faults.command("ip", "netns", "exec", run.cluster.space(node), "iptables", "-w", "-A",
                       "INPUT", "-s", f"{run.cluster.net}.254", "-p", "tcp", "--sport",
                       str(run.redis.port), "-j", "DROP")
    run.sleep(1.5, 3)
    run.note(f"heal: {run.cluster.dropped()} packets dropped")
    assert run.cluster.dropped() > 0
    run.cluster.heal()
    run.cluster.wait_ready()


def cut_leader_from_redis(run):
    cut_from_redis(run, [run.leader(0)], "the leader")


def cut_all_from_redis(run):
    cut_from_redis(run, run.cluster.nodes, "all nodes")


def test_cuts(net):
    with Run(*net()) as run:
        run.repeat(1, cut_leader_from_redis, faults.cut_leader, cut_all_from_redis,
                   faults.cut_halves).finish(faults=4)


# Another server takes over


def fail_over(run):
    """The master dies; a replica that has all that was answered takes over."""
    old = run.group.master()
    run.note(f"kill -9 of the master {old.address}")
    old.kill()
    run.group.wait_failover(old)
    run.note("heal: start the old master")
    old.start()
    run.cluster.wait_ready()


def test_sentinel_fails_over():
    """WAIT makes a write that was answered one that a replica has; its fail-over loses none."""
    with Sentinels() as group:
        flags = engine(group, query="wait=1")
        with Cluster(flags=flags) as cluster:
            run = Run(cluster.wait_ready(), None)
            run.group = group
            with run:
                run.repeat(1, fail_over).finish(faults=1, calls=1)
