"""A Sentinel group: who is the master, and what becomes of commands while that changes."""

import pytest
from probe import Probe, sleep
from redis_server import Sentinels, wait_until


@pytest.fixture
def group():
    with Sentinels() as made:
        yield made


@pytest.mark.sanitize
def test_failover_under_load(group):
    with Probe(group.url()) as probe:
        probe.wait_up()
        probe.say("subscribe", "c")
        probe.wait_event("channel", channel="c", up=True)
        old = group.master()
        assert probe.server_of()["address"] == old.address
        first = probe.server_of()
        probe.load(20, 20, 20000)
        sleep(0.3)
        since = len(probe.lines)
        old.kill()
        probe.wait_up(False)
        new = group.wait_failover(old)
        probe.wait_up(since=since, timeout=20)
        probe.wait_event("channel", channel="c", up=True, since=since)
        second = probe.server_of()
        assert second["address"] == new.address
        assert second["run_id"] == new.info("run_id") != first["run_id"]
        assert second["replid"] != first["replid"]
        sleep(0.3)
        load = probe.stop_load()
        # Replication is asynchronous: the new master may lack the last writes, never more.
        assert load["not_done"] == load["refused"] == 0
        assert load["unknown"] <= 20
        for key, (acked, unknown, highest) in load["keys"].items():
            assert int(new("GET", key)) <= acked + unknown
            assert highest <= acked + unknown
        assert probe.stats()["failovers"] == 1
        # The old one comes back as a replica; nothing moves.
        old.start()
        wait_until(lambda: old.info("role") == "slave", 30, "the old master follows")
        assert probe.ok("SET", "k", "after") == "OK"
        assert new("GET", "k") == "after"


def test_a_planned_failover(group):
    """The old master lives on: +switch-master and READONLY say that it is none."""
    with Probe(group.url()) as probe:
        probe.wait_up()
        old = group.master()
        probe.load(10, 10, 20000)
        sleep(0.2)
        since = len(probe.lines)
        group.sentinels[0]("SENTINEL", "FAILOVER", group.name)
        new = group.wait_failover(old)
        probe.wait(lambda line: line.get("event") == "server" and
                   line["address"] == new.address, 20, "the new master", since)
        sleep(0.5)
        load = probe.stop_load()
        assert load["not_done"] == load["refused"] == 0
        assert probe.ok("SET", "k", "v") == "OK"
        assert new("GET", "k") == "v"


@pytest.mark.slow
def test_a_paused_master(group):
    """It does not close its connections: deadlines do."""
    with Probe(group.url()) as probe:
        probe.wait_up()
        old = group.master()
        old.pause()
        tag = probe.start("SET", "k", "v", deadline=500)
        again = probe.start("SET", "r", "v", deadline=20000, flags="r")
        assert probe.result(tag)["status"] == "unknown_outcome"
        assert probe.result(again, 20)["status"] == "ok"
        new = group.wait_failover(old)
        assert new("GET", "r") == "v"
        old.resume()
        wait_until(lambda: old.info("role") == "slave", 30, "the old master follows")
        assert probe.ok("SET", "k", "v2") == "OK"
        assert new("GET", "k") == "v2"


def test_sentinels_die(group):
    with Probe(group.url()) as probe:
        probe.wait_up()
        group.sentinels[0].kill()
        group.sentinels[1].kill()
        sleep(1)
        assert probe.ok("SET", "k", "v") == "OK"
        # Whoever asks anew finds the one that is left.
        with Probe(group.url()) as late:
            late.wait_up()
        # A master that is started again within Sentinel's patience is found again.
        group.sentinels[2].kill()
        since = len(probe.lines)
        master = group.data[0]
        master.restart()
        probe.wait_up(since=since)


def test_wrong_names_and_passwords():
    with Sentinels(password="pw") as group:
        with Probe(group.url()) as probe:
            probe.wait_up()
        with Probe(group.url().replace(group.name, "other")) as probe:
            refused = probe.send("GET", "k", deadline=1000)
            assert refused["status"] == "unavailable"
            assert "no master of the name other" in refused["text"]
        # A wrong password is not tried over and over, though the Sentinels are asked again.
        with Probe(group.url().replace(":pw@", ":wrong@")) as probe:
            refused = probe.send("GET", "k", deadline=3000)
            assert refused["status"] == "unavailable" and "WRONGPASS" in refused["text"]
            entries = [dict(zip(entry[::2], entry[1::2]))
                       for entry in group.master()("ACL", "LOG")]
            tries = sum(entry["count"] for entry in entries if entry["reason"] == "auth")
            assert 1 <= tries <= 5, tries
        for sentinel in group.sentinels:
            sentinel("ACL", "SETUSER", "default", "resetpass", ">sp")
        with Probe(group.url()) as probe:
            refused = probe.send("GET", "k", deadline=1000)
            assert refused["status"] == "unavailable" and "NOAUTH" in refused["text"]
        with Probe(group.url(query="sentinel-password=sp")) as probe:
            probe.wait_up()
