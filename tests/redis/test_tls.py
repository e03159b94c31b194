"""TLS: whom the client trusts, whom it expects, and who it says it is."""

import subprocess

import pytest
from probe import PROBE, Probe
from redis_server import Certificates, Redis, Sentinels


@pytest.fixture(scope="module")
def certificates():
    with Certificates() as made:
        yield made


@pytest.fixture(scope="module")
def server(certificates):
    with Redis(tls=certificates) as redis:
        yield redis


@pytest.mark.sanitize
def test_trusted(server, certificates):
    with Probe(server.url(query=f"ca={certificates.ca}")) as probe:
        probe.wait_up()
        assert probe.ok("SET", "k", "x" * 1000) == "OK"
        probe.say("subscribe", "c")
        probe.wait_event("channel", channel="c", up=True)
        assert probe.ok("PUBLISH", "c", "m", key="-") == 1
        probe.wait_event("message", payload="m")
        tags = [probe.start("RPUSH", "l", n) for n in range(2000)]
        assert [probe.result(tag)["reply"] for tag in tags] == list(range(1, 2001))
        # A reply of many records.
        probe.script("big", "return string.rep('x', 3000000)")
        assert len(probe.eval("big", ["k"])["reply"]) == 3000000
    with Probe(f"rediss://localhost:{server.port}?ca={certificates.ca}") as probe:
        probe.wait_up()


def refused(url):
    with Probe(url) as probe:
        result = probe.send("GET", "k", deadline=1500)
        assert result["status"] == "unavailable"
        assert not any(line.get("up") for line in probe.lines)
        return result["text"], probe.logs("error")


def test_wrong_authority(server):
    with Certificates() as others:
        text, errors = refused(server.url(query=f"ca={others.ca}"))
        assert "certificate is not accepted" in text
        assert len(errors) == 1
    text, _ = refused(server.url())
    assert "certificate is not accepted" in text


def test_wrong_name(server, certificates):
    text, _ = refused(server.url(query=f"ca={certificates.ca}&server-name=redis.example"))
    assert "certificate is not accepted" in text and "mismatch" in text.lower()
    with Redis(tls=certificates) as redis:
        cert, key = certificates.issue("elsewhere", "DNS:redis.example")
        redis("CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key)
        text, _ = refused(redis.url(query=f"ca={certificates.ca}"))
        assert "mismatch" in text.lower()
        query = f"ca={certificates.ca}&server-name=redis.example"
        with Probe(redis.url(query=query)) as probe:
            probe.wait_up()


def test_insecure_looks_at_nothing(server):
    with Probe(server.url(query="insecure=1")) as probe:
        probe.wait_up()
        assert probe.ok("ECHO", "x", key="-") == "x"


def test_client_certificates(certificates):
    with Redis(tls=certificates, tls_auth_clients="yes") as redis:
        trusted = f"ca={certificates.ca}"
        text, _ = refused(redis.url(query=trusted))
        assert "TLS" in text or "closed" in text or "reset" in text.lower()
        own = f"cert={certificates.client_cert}&key={certificates.client_key}"
        with Probe(redis.url(query=f"{trusted}&{own}")) as probe:
            probe.wait_up()


def test_tls_to_a_plain_server(redis):
    text, _ = refused(f"rediss://{redis.address}")
    assert text.startswith("not done by the deadline: ")


def test_plain_to_a_tls_server(server):
    text, _ = refused(f"redis://{server.address}")
    assert text.startswith("not done by the deadline: ")


@pytest.mark.parametrize("query, part", [
    ("ca=/nowhere.pem", "ca: cannot use /nowhere.pem"),
    ("cert=/nowhere.pem&key=/nowhere.key", "cert: cannot use /nowhere.pem"),
])
def test_files_that_are_not_there(query, part):
    done = subprocess.run([PROBE, f"rediss://h?{query}"], capture_output=True, text=True)
    assert done.returncode == 2 and part in done.stderr


def test_key_of_another_certificate(certificates):
    query = f"cert={certificates.client_cert}&key={certificates.server_key}"
    done = subprocess.run([PROBE, f"rediss://h?{query}"], capture_output=True, text=True)
    assert done.returncode == 2 and "key: cannot use" in done.stderr


@pytest.mark.sanitize
def test_restarted_under_load(certificates):
    with Redis(tls=certificates, aof=True) as redis:
        with Probe(redis.url(query=f"ca={certificates.ca}")) as probe:
            probe.wait_up()
            probe.load(10, 50, 10000)
            for _ in range(3):
                since = len(probe.lines)
                redis.restart()
                probe.wait_up(since=since)
            load = probe.stop_load()
            for key, (acked, unknown, _) in load["keys"].items():
                assert acked <= int(redis("GET", key)) <= acked + unknown, key


def test_sentinels_by_tls(certificates):
    with Sentinels(tls=certificates) as group:
        url = group.url(query=f"ca={certificates.ca}")
        with Probe(url) as probe:
            probe.wait_up()
            old = group.master()
            old.kill()
            since = len(probe.lines)
            group.wait_failover(old)
            probe.wait_up(since=since, timeout=20)
