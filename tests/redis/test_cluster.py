"""A Cluster: keys go where their slots are, also while slots move and masters die."""

import pytest
from probe import Probe, sleep
from redis_server import Cluster, wait_until

SCRIPT = "redis.call('INCR', KEYS[1]) return redis.call('GET', KEYS[1])"


@pytest.fixture(scope="module")
def cluster():
    with Cluster(replicas=0) as made:
        yield made


def total(cluster, key):
    return int(cluster.owner(cluster.slot(key))("GET", key) or 0)


def assert_counts(cluster, load):
    assert load["not_done"] == load["refused"] == load["none"] == 0, load["text"]
    for key, (acked, unknown, highest) in load["keys"].items():
        assert acked <= total(cluster, key) <= acked + unknown, key
        assert highest <= acked + unknown


@pytest.mark.sanitize
def test_routes(cluster):
    with Probe(cluster.url()) as probe:
        probe.wait_up()
        for n in range(60):
            assert probe.ok("SET", f"k{n}", n) == "OK"
        for n in range(60):
            assert cluster.owner(cluster.slot(f"k{n}"))("GET", f"k{n}") == str(n)
        assert probe.stats()["redirects"] == 0
        assert probe.stats()["nodes"] == 3
        # Scripts are loaded at each master, keys with one tag are together.
        probe.script("s", SCRIPT)
        for n in range(30):
            assert probe.eval("s", [f"{{t{n}}}:a", f"{{t{n}}}:b"])["reply"] == "1"
        assert probe.stats()["scripts_loaded"] == 3
        crossed = probe.eval("s", ["a", "b"])
        assert crossed["status"] == "io" and crossed["text"].startswith("CROSSSLOT")
        # Every master in turn, and any.
        ids = {probe.ok("CLUSTER", "MYID", key="-", flags=f"n{n}") for n in (1, 2, 3)}
        assert ids == {cluster.id_of(server) for server in cluster.servers}
        assert probe.send("PING", key="-", flags="n4")["status"] == "unavailable"
        assert probe.ok("ECHO", "x", key="-") == "x"
        for key in ("a", "b", "c"):
            assert (probe.server_of(key)["address"] ==
                    cluster.owner(cluster.slot(key)).address)


@pytest.mark.sanitize
def test_subscriptions_reach_everyone(cluster):
    with Probe(cluster.url()) as probe:
        probe.say("subscribe", "c")
        probe.wait_event("channel", channel="c", up=True)
        for server in cluster.servers:
            server("PUBLISH", "c", server.port)
        for server in cluster.servers:
            probe.wait_event("message", payload=str(server.port))


@pytest.mark.sanitize
def test_asked_elsewhere(cluster):
    """A slot in migration: what is there is answered there, what is gone by ASK."""
    with Probe(cluster.url()) as probe:
        probe.wait_up()
        probe.script("s", SCRIPT)
        slot = cluster.slot("{m}")
        source = cluster.owner(slot)
        target = next(server for server in cluster.servers if server is not source)
        probe.ok("SET", "{m}:stays", "1")
        probe.ok("SET", "{m}:goes", "1")
        cluster.begin_move(slot, target)
        source("MIGRATE", "127.0.0.1", target.port, "{m}:goes", 0, 5000)
        assert probe.ok("GET", "{m}:stays") == "1"
        assert probe.ok("GET", "{m}:goes") == "1"
        assert probe.eval("s", ["{m}:goes"])["reply"] == "2"
        assert probe.eval("s", ["{m}:new"])["reply"] == "1"
        redirects = probe.stats()["redirects"]
        assert redirects >= 3
        # Both halves at once: TRYAGAIN until the move is over.
        both = probe.start("MGET", "{m}:stays", "{m}:goes", deadline=10000)
        # The deadline may also fall between a question and its answer.
        wait_until(lambda: "TRYAGAIN" in probe.send("MGET", "{m}:stays", "{m}:goes",
                                                    deadline=300)["text"], what="TRYAGAIN")
        cluster.move_keys(slot, source, target)
        cluster.end_move(slot, target)
        assert probe.result(both)["reply"] == ["1", "2"]
        assert probe.ok("GET", "{m}:new") == "1"
        # MOVED was seen once; from then on it is known.
        redirects = probe.stats()["redirects"]
        assert probe.ok("GET", "{m}:stays") == "1"
        assert probe.stats()["redirects"] == redirects


@pytest.mark.sanitize
def test_slots_move_under_load(cluster):
    with Probe(cluster.url()) as probe:
        probe.wait_up()
        probe.script("s", SCRIPT)
        before = {f"load:{n}": total(cluster, f"load:{n}") for n in range(60)}
        probe.load(60, 40, 20000, "-", "s")
        for n in range(0, 60, 2):
            slot = cluster.slot(f"load:{n}")
            source = cluster.owner(slot)
            servers = cluster.servers
            target = servers[(servers.index(source) + 1) % len(servers)]
            cluster.move_slot(slot, target)
        load = probe.stop_load()
        assert probe.stats()["redirects"] >= 30
        assert load["unknown"] == load["not_done"] == load["refused"] == 0, load["text"]
        for key, (acked, _, _) in load["keys"].items():
            assert total(cluster, key) == before[key] + acked, key
        wait_until(cluster.is_whole, what="whole again")


@pytest.mark.slow
def test_resharded_by_redis_cli():
    with Cluster(replicas=0) as cluster, Probe(cluster.url()) as probe:
        probe.wait_up()
        probe.load(200, 40, 20000)
        source, target = cluster.servers[0], cluster.servers[1]
        done = cluster.cli("--cluster", "reshard", source.address, "--cluster-from",
                           cluster.id_of(source), "--cluster-to", cluster.id_of(target),
                           "--cluster-slots", "3000", "--cluster-yes")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        load = probe.stop_load()
        assert load["unknown"] == 0
        assert_counts(cluster, load)


@pytest.mark.sanitize
def test_a_master_dies():
    with Cluster() as cluster, Probe(cluster.url()) as probe:
        probe.wait_up()
        probe.say("subscribe", "c")
        probe.wait_event("channel", channel="c", up=True)
        probe.load(100, 40, 30000)
        sleep(0.3)
        victim = cluster.owner(cluster.slot("load:0"))
        since = len(probe.lines)
        victim.kill()
        wait_until(lambda: cluster.owner(cluster.slot("load:0")) is not victim, 30,
                   "its replica takes over")
        probe.wait_up(since=since, timeout=20)
        sleep(0.3)
        load = probe.stop_load()
        assert load["not_done"] == load["refused"] == 0
        for key, (acked, unknown, highest) in load["keys"].items():
            assert highest <= acked + unknown and total(cluster, key) <= acked + unknown
        assert probe.server_of("load:0")["address"] != victim.address
        # The subscription is at a node that lives.
        def heard():
            mark = len(probe.lines)
            cluster.alive()[0]("PUBLISH", "c", "m")
            sleep(0.05)
            return [line for line in probe.lines[mark:] if line.get("event") == "message"]
        wait_until(heard, what="messages go on")
        # It comes back as a replica, and is left alone.
        victim.start()
        wait_until(lambda: victim.info("role") == "slave", 30, "it follows")
        wait_until(cluster.is_whole, 30, "whole again")
        for n in range(30):
            assert probe.ok("SET", f"k{n}", n) == "OK"


def test_a_planned_failover():
    with Cluster() as cluster, Probe(cluster.url()) as probe:
        probe.wait_up()
        probe.load(100, 40, 30000)
        replica = next(server for server in cluster.servers
                       if server.info("role") == "slave")
        old = cluster.by_port(replica.info("master_port"))
        for patience in (8, 8, 20):
            # Redis gives one up after 5 s, as on a busy machine, and says so in its log only.
            replica("CLUSTER", "FAILOVER")
            try:
                wait_until(lambda: old.info("role") == "slave", patience, "they changed places")
                break
            except AssertionError:
                if patience == 20 or replica.info("role") != "slave":
                    raise
        wait_until(lambda: probe.stats()["redirects"] > 0, what="MOVED")
        sleep(0.5)
        load = probe.stop_load()
        # Nothing is lost in a planned one, and nothing was done twice.
        assert load["unknown"] == 0
        wait_until(cluster.is_whole, 30, "whole again")
        assert_counts(cluster, load)


def test_slots_without_a_master(cluster):
    """CLUSTERDOWN passes."""
    slot = cluster.slot("down")
    owner = cluster.owner(slot)
    with Probe(cluster.url()) as probe:
        probe.wait_up()
        for server in cluster.servers:
            server("CONFIG", "SET", "cluster-require-full-coverage", "no")
            server("CLUSTER", "DELSLOTS", slot)
        refused = probe.send("SET", "down", "v", deadline=500)
        assert refused["status"] == "unavailable"
        tag = probe.start("SET", "down", "v", deadline=15000)
        sleep(0.5)
        owner("CLUSTER", "ADDSLOTS", slot)
        assert probe.result(tag, 20)["status"] == "ok"
        wait_until(cluster.is_whole, what="whole again")


def test_wrong_kinds(cluster, redis):
    with Probe(f"redis://{cluster.servers[0].address}") as probe:
        refused = probe.send("GET", "k", deadline=800)
        assert refused["status"] == "unavailable" and "redis+cluster://" in refused["text"]
    with Probe(f"redis+cluster://{redis.address}") as probe:
        refused = probe.send("GET", "k", deadline=800)
        assert refused["status"] == "unavailable"
        assert "cluster support disabled" in refused["text"]
