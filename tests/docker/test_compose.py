"""The image and the compose file, with the local Docker engine: built from the tree, three
nodes, reached from the host and from inside, one killed, all restarted."""

import http.client
import json
import pathlib
import shutil
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "docker" / "docker-compose.yml"
PROJECT = "rukun-test"
HTTP = {"n1": 7401, "n2": 7402, "n3": 7403}

pytestmark = pytest.mark.slow


def compose_command():
    """`docker compose`, or docker-compose 1.29."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    assert shutil.which("docker-compose"), "neither docker compose nor docker-compose is installed"
    return ["docker-compose"]


def compose(*arguments, check=True):
    return subprocess.run([*compose_command(), "-p", PROJECT, "-f", str(FILE), *arguments],
                          check=check, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


def post(node, path, fields):
    connection = http.client.HTTPConnection("127.0.0.1", HTTP[node], timeout=20)
    connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def container(node):
    return compose("ps", "-q", node).split()[0]


def health(node):
    return subprocess.run(["docker", "inspect", "-f", "{{.State.Health.Status}}", container(node)],
                          text=True, capture_output=True, check=True).stdout.strip()


def wait_healthy(nodes=HTTP, seconds=90):
    end = time.monotonic() + seconds
    while [health(node) for node in nodes] != ["healthy"] * len(nodes):
        assert time.monotonic() < end, compose("logs", "--tail=30")
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster():
    if subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
        pytest.skip("no Docker engine answers")
    subprocess.run([ROOT / "docker" / "make-base-image"], check=True)
    compose("up", "--build", "-d")
    try:
        wait_healthy()
        yield
    finally:
        compose("down", "-v", check=False)


def test_every_node_serves_the_host(cluster):
    status, granted = post("n1", "/lock/acquire", {"resource": "r", "owner": "a"})
    assert (status, granted["granted"]) == (200, True)
    status, refused = post("n2", "/lock/acquire", {"resource": "r", "owner": "b"})
    assert (status, refused["code"]) == (409, "held")
    assert post("n3", "/lock/release", {"resource": "r", "owner": "a"})[1] == {"released": True}


def test_advertised_addresses_work_inside_and_outside(cluster):
    """The tool goes to the leaders by the addresses that the nodes advertise."""
    inside = subprocess.run(
        ["docker", "exec", container("n2"), "rukun", "cache", "put", "inside", "1",
         "--endpoints", "127.0.0.1:7500"], text=True, capture_output=True)
    assert inside.returncode == 0, inside.stderr
    status, answer = post("n3", "/cache/get", {"key": "inside"})
    assert (status, answer["value"]) == (200, 1)
    connection = http.client.HTTPConnection("127.0.0.1", 7401, timeout=20)
    connection.request("GET", "/cluster")
    for node in json.loads(connection.getresponse().read())["nodes"]:
        direct = http.client.HTTPConnection(node["http"], timeout=20)
        direct.request("GET", "/readyz")
        assert direct.getresponse().status == 200, node


def test_processes_are_not_root(cluster):
    user = subprocess.run(["docker", "exec", container("n1"), "id", "-u"], text=True,
                          capture_output=True, check=True).stdout.strip()
    assert user == "7400"


def test_a_killed_node_and_a_restart_of_all_lose_nothing(cluster):
    assert post("n1", "/queue/publish", {"topic": "t", "data": "kept"})[0] == 200
    subprocess.run(["docker", "kill", container("n1")], check=True, stdout=subprocess.DEVNULL)
    assert post("n2", "/cache/put", {"key": "while-down", "value": 2})[0] == 200
    compose("up", "-d")
    wait_healthy()
    compose("restart")
    wait_healthy()
    assert post("n1", "/queue/consume", {"topic": "t"})[1]["message"] == "kept"
    assert post("n1", "/cache/get", {"key": "while-down"})[1]["value"] == 2


def test_with_one_redis():
    """The same three nodes over one Redis: what they hold can be read there."""
    compose("--profile", "embedded", "down", "-v", check=False)
    compose("--profile", "redis", "up", "--build", "-d")
    try:
        wait_healthy(["r1", "r2", "r3"])
        status, granted = post("n1", "/lock/acquire", {"resource": "r", "owner": "a",
                                                       "lease_ms": 300000})
        assert (status, granted["granted"]) == (200, True)
        assert post("n2", "/queue/publish", {"topic": "t", "data": "kept"})[0] == 200
        assert post("n3", "/cache/put", {"k": "a", "v": 1})[0] == 200
        keys = subprocess.run(["docker", "exec", container("redis"), "redis-cli", "keys", "*"],
                              text=True, capture_output=True, check=True).stdout.split()
        assert {"{lock}:r", "{lock}:r:owners", "q:{t}", "cache:{a}"} <= set(keys), keys
        compose("--profile", "redis", "restart")
        wait_healthy(["r1", "r2", "r3"])
        assert post("n1", "/queue/consume", {"topic": "t"})[1]["message"] == "kept"
        # Redis and the leader were restarted at once: nobody knows that nothing was lost, so
        # grants are held back for the longest lease before the lock is found held.
        end = time.monotonic() + 60
        while (status := post("n2", "/lock/acquire", {"resource": "r", "owner": "b"})[0]) == 503:
            assert time.monotonic() < end
            time.sleep(1)
        assert status == 409
    finally:
        compose("--profile", "redis", "down", "-v", check=False)
