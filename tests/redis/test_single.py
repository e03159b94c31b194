"""One server: deadlines, lost connections, errors that pass and errors that stay."""

import socket
import threading
import time

import pytest
from probe import Probe, sleep
from redis_server import Redis, wait_until

SCRIPT = "redis.call('INCR', KEYS[1]) return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}"


@pytest.mark.sanitize
def test_commands_and_facts(redis):
    with Probe(redis.url("/3")) as probe:
        probe.wait_up()
        assert probe.ok("SET", "k", "v") == "OK"
        assert probe.ok("GET", "k") == "v"
        assert probe.ok("GET", "absent") is None
        assert probe.ok("RPUSH", "l", "a", "b") == 2
        assert probe.ok("LRANGE", "l", "0", "-1") == ["a", "b"]
        wrong = probe.send("INCR", "l")
        assert wrong["status"] == "io" and wrong["text"].startswith("WRONGTYPE")
        with redis.connect() as other:
            other("SELECT", "3")
            assert other("GET", "k") == "v"
            clients = other("CLIENT", "LIST")
            assert "name=probe" in clients and "db=3" in clients
        server = probe.server_of()
        assert server["run_id"] == redis.info("run_id")
        assert server["replid"] == redis.info("master_replid")
        assert server["version"] == redis.info("redis_version")
        assert server["policy"] == "noeviction" and server["maxmemory"] == 0
        assert server["address"] == redis.address and server["aof"] is False


@pytest.mark.sanitize
def test_scripts_are_brought_where_they_are_missing(redis):
    with Probe(redis.url()) as probe:
        probe.script("s", SCRIPT)
        assert probe.eval("s", ["k"], "x")["reply"] == ["k", "x", "1"]
        assert probe.eval("s", ["k"], "y")["reply"] == ["k", "y", "2"]
        assert probe.stats()["scripts_loaded"] == 1
        redis("SCRIPT", "FLUSH")
        # Many under way: one brings the text, the others go by its name, each done once.
        tags = [probe.start_script("s", ["k"], n) for n in range(200)]
        replies = [probe.result(tag)["reply"] for tag in tags]
        assert sorted(int(reply[2]) for reply in replies) == list(range(3, 203))
        assert probe.stats()["scripts_loaded"] <= 3
        probe.script("bad", "this is no Lua")
        broken = probe.eval("bad", ["k"])
        assert broken["status"] == "io" and "rror compiling script" in broken["text"]
        probe.script("own", "return redis.error_reply('RUKUN stale term 3')")
        own = probe.eval("own", ["k"])
        assert own["status"] == "io" and own["text"] == "RUKUN stale term 3"


@pytest.mark.sanitize
def test_killed_and_started_again():
    with Redis(aof=True) as redis, Probe(redis.url()) as probe:
        probe.wait_up()
        first = probe.server_of()["run_id"]
        probe.load(20, 20, 10000)
        sleep(0.3)
        redis.kill()
        probe.wait_up(False)
        assert probe.send("GET", "k", deadline=300)["status"] == "unavailable"
        since = len(probe.lines)
        redis.start()
        probe.wait_up(since=since)
        assert probe.server_of()["run_id"] != first
        sleep(0.2)
        load = probe.stop_load()
        # What was under way when it died is unknown; everything else was done, once.
        assert load["not_done"] == 0 and 0 < load["unknown"] <= 20 and load["ok"] > 100
        for key, (acked, unknown, _) in load["keys"].items():
            assert acked <= int(redis("GET", key)) <= acked + unknown, key


def test_repeats_only_what_may_be_repeated():
    with Redis(aof=True) as redis, Probe(redis.url()) as probe:
        probe.wait_up()
        probe.ok("SET", "k", "0")
        redis.pause()
        plain = probe.start("INCR", "k", deadline=8000)
        again = probe.start("SET", "r", "1", deadline=8000, flags="r")
        sleep(0.3)
        redis.kill()
        result = probe.result(plain)
        assert result["status"] == "unknown_outcome" and result["text"].startswith("sent, and")
        redis.start()
        assert probe.result(again)["status"] == "ok"
        assert probe.stats()["repeated"] >= 1
        # It may have been done before the connection was lost: not done is not claimed.
        redis.pause()
        tag = probe.start("SET", "r", "2", deadline=1500, flags="r")
        sleep(0.3)
        redis.kill()
        assert probe.result(tag)["status"] == "unknown_outcome"


@pytest.mark.sanitize
def test_deadlines(redis):
    with Probe(redis.url()) as probe:
        probe.wait_up()
        with redis.connect() as other:
            other("CLIENT", "PAUSE", "600", "WRITE")
            late = probe.send("SET", "k", "v", deadline=200)
            assert late["status"] == "unknown_outcome" and 190 <= late["ms"] < 500
            # The connection stays: what comes late is nobody's, and the next one is right.
            assert probe.ok("ECHO", "hello", key="-", deadline=3000) == "hello"
            assert probe.ok("GET", "k") in ("v", None)
        assert probe.stats()["losses"] == 0


def test_a_stuck_connection_is_given_up(redis):
    with Probe(redis.url()) as probe:
        probe.wait_up()
        with redis.connect() as other:
            other.send("DEBUG", "SLEEP", "3")
            sleep(0.1)
            begun = time.monotonic()
            late = probe.start("SET", "k", "v", deadline=300)
            longer = probe.start("GET", "k", deadline=8000, flags="r")
            assert probe.result(late)["status"] == "unknown_outcome"
            probe.wait_up(False, timeout=2.5)
            assert time.monotonic() - begun < 2.5
            assert probe.result(longer)["status"] == "ok"
            other.read()
        assert probe.stats()["losses"] == 1


def test_forgotten(redis):
    with Probe(redis.url()) as probe:
        probe.wait_up()
        with redis.connect() as other:
            other("CLIENT", "PAUSE", "500", "ALL")
            tag = probe.start("SET", "k", "v", deadline=3000)
            probe.ask("forgotten", "forget", tag)
        assert probe.ok("ECHO", "next", key="-") == "next"
        assert not [line for line in probe.lines if line.get("tag") == tag and "status" in line]
        assert probe.stats()["pending"] == 0
        redis.kill()
        probe.wait_up(False)
        tag = probe.start("SET", "k", "v", deadline=800)
        probe.ask("forgotten", "forget", tag)
        sleep(1)
        assert probe.stats()["pending"] == 0


@pytest.mark.sanitize
def test_subscriptions(redis):
    with Probe(redis.url()) as probe:
        for name in ("one", "two", "one"):
            probe.say("subscribe", name)
        probe.wait_event("channel", channel="one", up=True)
        probe.wait_event("channel", channel="two", up=True)
        assert probe.ok("PUBLISH", "one", "a", key="-") == 1
        wait_until(lambda: len([line for line in probe.lines
                                if line.get("event") == "message"]) == 2, what="both listeners")
        probe.say("unsubscribe", "two")
        wait_until(lambda: probe.ok("PUBLISH", "two", "x", key="-") == 0, what="unsubscribed")
        since = len(probe.lines)
        redis("CLIENT", "KILL", "TYPE", "pubsub")
        probe.wait_event("channel", since=since, channel="one", up=False)
        probe.wait_event("channel", since=since, channel="one", up=True)
        probe.ok("PUBLISH", "one", "b", key="-")
        probe.wait_event("message", since=since, channel="one", payload="b")


@pytest.mark.slow
def test_a_silent_subscription_is_noticed():
    """PING goes out after 10 s; a server that stopped does not answer it."""
    with Redis() as redis, Probe(redis.url(query="timeout-ms=500")) as probe:
        probe.say("subscribe", "c")
        probe.wait_event("channel", channel="c", up=True)
        redis.pause()
        probe.wait_event("channel", timeout=14, channel="c", up=False)
        since = len(probe.lines)
        redis.resume()
        probe.wait_event("channel", since=since, channel="c", up=True)


def test_full_memory():
    with Redis(maxmemory="3mb") as redis, Probe(redis.url()) as probe:
        probe.wait_up()
        assert probe.server_of()["maxmemory"] == 3 << 20
        probe.script("fill", "redis.call('SET', KEYS[1], string.rep('x', 1000000)) return 1")
        statuses = [probe.eval("fill", [f"k{n}"])["status"] for n in range(8)]
        assert statuses[0] == "ok" and statuses[-1] == "full", statuses
        plain = probe.send("SET", "k", "v")
        assert plain["status"] == "full" and plain["text"].startswith("OOM")
        assert probe.ok("GET", "absent") is None


def test_what_passes_is_waited_for():
    with Redis(min_replicas_to_write="1") as redis, Probe(redis.url()) as probe:
        probe.wait_up()
        refused = probe.send("SET", "k", "v", deadline=400)
        assert refused["status"] == "unavailable" and "NOREPLICAS" in refused["text"]
        tag = probe.start("SET", "k", "v", deadline=5000)
        sleep(0.2)
        redis("CONFIG", "SET", "min-replicas-to-write", "0")
        assert probe.result(tag)["status"] == "ok"


def test_a_busy_script(redis):
    redis("CONFIG", "SET", "busy-reply-threshold", "50")
    with Probe(redis.url()) as probe:
        probe.wait_up()
        with redis.connect(timeout=30) as other:
            other.send("EVAL", "while true do end", "0")
            sleep(0.3)
            late = probe.send("GET", "k", deadline=300)
            assert late["status"] in ("unavailable", "unknown_outcome"), late
            tag = probe.start("GET", "k", deadline=5000)
            sleep(0.2)
            redis("SCRIPT", "KILL")
            assert probe.result(tag)["status"] == "ok"


def test_loading():
    with Redis(aof=True, loading_process_events_interval_bytes="1024",
               key_load_delay="200") as redis:
        with redis.connect() as other:
            for first in range(0, 10000, 1000):
                other("MSET", *[word for n in range(first, first + 1000)
                                for word in (f"k{n}", "v")])
        redis("BGREWRITEAOF")
        wait_until(lambda: redis.info("aof_rewrite_in_progress") == "0", what="rewritten")
        with Probe(redis.url()) as probe:
            probe.wait_up()
            redis.kill()
            probe.wait_up(False)
            since = len(probe.lines)
            redis.start(wait=False)
            tag = probe.start("GET", "k9999", deadline=20000)
            assert probe.result(tag, 20)["reply"] == "v"
            probe.wait_up(since=since)
            assert any("LOADING" in text for text in probe.logs()), probe.logs()


def test_wait_for_replicas(redis):
    with Redis(replicaof=f"127.0.0.1 {redis.port}") as replica:
        with Probe(redis.url(query="wait-ms=400")) as probe:
            probe.wait_up()
            wait_until(lambda: probe.send("SET", "k", "v", flags="w1")["replicas"] == 1,
                       what="the replica is in step")
            both = [probe.start("SET", f"k{n}", n, flags="w1") for n in range(50)]
            assert {probe.result(tag)["replicas"] for tag in both} == {1}
            assert replica("GET", "k49") == "49"
            assert probe.send("GET", "k1")["replicas"] == -1
            replica.pause()
            alone = probe.send("SET", "k", "v", flags="w1")
            assert alone["status"] == "ok" and alone["replicas"] == 0
            assert 390 <= alone["ms"] < 1500
            replica.resume()
            wait_until(lambda: probe.send("SET", "k", "v", flags="w1")["replicas"] == 1,
                       what="the replica again")


def test_a_replica_is_no_master(redis):
    with Redis(replicaof=f"127.0.0.1 {redis.port}") as replica:
        with Probe(replica.url()) as probe:
            late = probe.send("SET", "k", "v", deadline=400)
            assert late["status"] == "unavailable" and "replica" in late["text"]
            since = len(probe.lines)
            replica("REPLICAOF", "NO", "ONE")
            probe.wait_up(since=since)
            assert probe.ok("SET", "k", "v") == "OK"
            # Demoted under way: READONLY, and nothing is lost or done twice.
            probe.load(5, 5, 10000)
            sleep(0.1)
            replica("REPLICAOF", "127.0.0.1", redis.port)
            probe.wait_up(False)
            since = len(probe.lines)
            replica("REPLICAOF", "NO", "ONE")
            probe.wait_up(since=since)
            load = probe.stop_load()
            assert load["not_done"] == load["refused"] == 0


def test_passwords():
    with Redis(password="se cret") as redis:
        with Probe(redis.url().replace(" ", "%20")) as probe:
            probe.wait_up()
        with Probe(f"redis://:wrong@{redis.address}") as probe:
            refused = probe.send("GET", "k", deadline=1500)
            assert refused["status"] == "unavailable" and "WRONGPASS" in refused["text"]
            # Loud, but neither often nor with the password.
            assert len(probe.logs("error")) == 1
            assert not any("wrong@" in text or ":wrong" in text for text in probe.logs())
            assert probe.stats()["connects"] == 0
            attempts = int(redis.info("total_connections_received"))
            sleep(1)
            assert int(redis.info("total_connections_received")) - attempts <= 6
        with Probe(f"redis://{redis.address}") as probe:
            refused = probe.send("GET", "k", deadline=300)
            assert refused["status"] == "unavailable" and "NOAUTH" in refused["text"]


def test_users():
    with Redis() as redis:
        redis("ACL", "SETUSER", "app", "on", ">pw", "~app:*", "&*", "+@all", "-info", "-role",
              "-client", "-keys")
        with Probe(f"redis://app:pw@{redis.address}") as probe:
            probe.wait_up()
            # Without INFO it does its work, and knows less.
            assert probe.ok("SET", "app:k", "v") == "OK"
            assert probe.server_of()["policy"] == ""
            denied = probe.send("SET", "other", "v")
            assert denied["status"] == "forbidden" and denied["text"].startswith("NOPERM")
            redis("ACL", "SETUSER", "app", "off")
            redis("CLIENT", "KILL", "USER", "app")
            probe.wait_up(False)
            since = len(probe.lines)
            assert probe.send("GET", "app:k", deadline=300)["status"] == "unavailable"
            redis("ACL", "SETUSER", "app", "on")
            probe.wait_up(since=since, timeout=20)


def test_no_such_database(redis):
    with Probe(redis.url("/99")) as probe:
        refused = probe.send("GET", "k", deadline=500)
        assert refused["status"] == "unavailable" and "DB index" in refused["text"]
        assert len(probe.logs("error")) == 1


def test_names_and_addresses(redis):
    """localhost may be ::1 first, where nobody listens."""
    with Probe(f"redis://localhost:{redis.port}") as probe:
        probe.wait_up()
    with Probe("redis://no-such-host.invalid") as probe:
        assert probe.send("GET", "k", deadline=500)["status"] == "unavailable"


def test_too_many_clients():
    with Redis(maxclients="2") as redis:
        with redis.connect(), redis.connect() as second:
            with Probe(redis.url()) as probe:
                refused = probe.send("GET", "k", deadline=500)
                assert refused["status"] == "unavailable"
                assert "max number of clients" in refused["text"]
                second.close()
                probe.wait_up()


@pytest.mark.sanitize
def test_a_flood_keeps_its_order(redis):
    """More than the pipeline takes, at once."""
    with Probe(redis.url()) as probe:
        probe.wait_up()
        tags = [probe.start("RPUSH", "l", n) for n in range(3000)]
        assert [probe.result(tag)["reply"] for tag in tags] == list(range(1, 3001))
        assert redis("LRANGE", "l", "0", "-1") == [str(n) for n in range(3000)]


def test_not_a_redis():
    """A server that sends something else is left, without haste."""
    listener = socket.create_server(("127.0.0.1", 0))
    connected = []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connected.append(connection)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    with Probe(f"redis://127.0.0.1:{listener.getsockname()[1]}") as probe:
        refused = probe.send("GET", "k", deadline=1500)
        assert refused["status"] == "unavailable" and "protocol" in refused["text"]
        assert len(connected) < 20
    listener.close()
