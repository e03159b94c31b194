"""One node's life: settings, starting, stopping, what it does without its peers."""

import http.client
import json
import pathlib
import socket
import subprocess
import threading
import time

import pytest

from rukun_cluster import RUKUND, Cluster, RpcError, free_ports, wait_until


def run(*arguments, **options):
    return subprocess.run([str(RUKUND), *arguments], capture_output=True, text=True,
                          timeout=20, check=False, **options)


# Settings


def test_help_and_version():
    done = run("--help")
    assert done.returncode == 0 and "--advertise-http" in done.stdout
    assert run("--version").stdout.startswith("rukund ")


def test_check_config(tmp_path):
    file = tmp_path / "rukund.ini"
    file.write_text("name = from-file\ngroups = 3\n")
    done = run("--config", str(file), "--check-config", "--groups", "4",
               env={"RUKUND_LOG_LEVEL": "debug"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "name = from-file ; file" in lines
    assert "groups = 4 ; flag" in lines
    assert "log-level = debug ; environment" in lines
    # What is printed can be read again.
    file.write_text(done.stdout)
    assert run("--config", str(file), "--check-config").returncode == 0


@pytest.mark.parametrize("flags,text", [
    (["--nmae", "x"], 'did you mean "name"'),
    (["--http", "0.0.0.0:7400"], "--insecure"),
    (["--engine", "redis"], "redis"),
    (["--peers", "other=127.0.0.1:1"], "is not among them"),
])
def test_wrong_settings(flags, text):
    done = run(*flags)
    assert done.returncode == 2
    assert text in done.stderr and done.stderr.count("\n") == 1


def test_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--data", str(tmp_path / "d"), "--http", f"127.0.0.1:{port}", "--rpc",
                   "127.0.0.1:0", "--peer", "127.0.0.1:0")
    assert done.returncode == 1
    assert "can not listen" in done.stderr and str(port) in done.stderr


def test_folder_in_use(fresh):
    cluster = fresh(size=1)
    cluster.wait_ready()
    ports = free_ports(3)
    done = run("--data", str(cluster["n1"].data), "--http", f"127.0.0.1:{ports[0]}", "--rpc",
               f"127.0.0.1:{ports[1]}", "--peer", f"127.0.0.1:{ports[2]}")
    assert done.returncode == 1
    assert "can not open the data" in done.stderr


def test_json_log(fresh):
    cluster = fresh(size=1, flags=["--log-format", "json"])
    cluster.wait_ready()
    lines = [json.loads(line) for line in cluster["n1"].log_text().splitlines()]
    assert {"time", "level", "node", "msg"} <= set(lines[0])
    assert all(line["node"] == "n1" for line in lines)


# One node alone


def test_single_node_keeps_its_data(fresh):
    cluster = fresh(size=1)
    cluster.wait_ready()
    node = cluster["n1"]
    node.post("/cache/put", {"k": "a", "v": {"x": 1}})
    message = node.post("/queue/publish", {"topic": "t", "data": "kept"})["id"]
    grant = node.post("/lock/acquire", {"resource": "r", "owner": "o", "lease_ms": 600000})
    for end in (node.kill, node.stop):
        end()
        node.start()
        cluster.wait_ready()
        assert node.post("/cache/get", {"k": "a"})["value"] == {"x": 1}
        assert node.post("/queue/peek", {"topic": "t"})["messages"][0]["message_id"] == message
        holder = node.post("/lock/info", {"resource": "r"})["holders"][0]
        assert holder["fence"] == grant["fence"]
    node.kill()
    done = run("inspect", str(node.data), "--records")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr


def test_stop_is_quick_and_clean(fresh):
    cluster = fresh(size=1)
    cluster.wait_ready()
    began = time.monotonic()
    assert cluster["n1"].stop() == 0
    assert time.monotonic() - began < 4
    assert "stopped" in cluster["n1"].log_text()


def test_stop_answers_what_waits(fresh):
    """Waits of both kinds get an answer that says what is known; then the node ends."""
    cluster = fresh(size=1)
    cluster.wait_ready()
    node = cluster["n1"]
    node.post("/lock/acquire", {"resource": "r", "owner": "a"})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(
        node.post("/queue/consume", {"topic": "t", "wait_ms": 30000})))
    thread.start()
    with node.connect() as rpc, node.connect():
        waiting = rpc.send("lock.acquire", resource="r", owner="b", wait_ms=30000)
        wait_until(lambda: node.post("/lock/info", {"resource": "r"})["waiters"], 5, "b waits")
        assert node.stop() == 0
        with pytest.raises(RpcError) as caught:
            rpc.wait(waiting)
        assert caught.value.problem["status"] in (503, 504)
    thread.join(5)
    assert answers and answers[0].status in (503, 504), answers


def test_too_many_connections(fresh):
    """Clients can not take the descriptors that the node needs for itself."""
    cluster = fresh(size=1, start=False)
    node = cluster["n1"]
    node.descriptors = 140
    node.start()
    cluster.wait_ready()
    for address in (node.rpc, node.http):
        host, port = address.rsplit(":", 1)
        sockets = [socket.create_connection((host, int(port))) for _ in range(200)]
        time.sleep(1)
        assert len(list(pathlib.Path(f"/proc/{node.process.pid}/fd").iterdir())) <= 80
        if address is node.rpc:
            assert node.post("/cache/put", {"k": "a", "v": 1}).status == 200
        for sock in sockets:
            sock.close()
        wait_until(node.is_ready, 5, "it accepts again")
    assert node.metric("rukun_rpc_connections_refused_total") > 0


# Three nodes


def test_graceful_stop_hands_over(fresh):
    """While the leader stops, calls at the other nodes do not notice."""
    cluster = fresh()
    cluster.wait_ready()
    leader = cluster.leader(0)
    others = [node for node in cluster if node is not leader]
    slowest = 0.0
    stopped = []
    thread = threading.Thread(target=lambda: stopped.append(leader.stop()))
    end = time.monotonic() + 4
    n = 0
    while time.monotonic() < end:
        if n == 20:
            thread.start()
        began = time.monotonic()
        answer = others[n % 2].post("/lock/acquire", {"resource": f"s{n}", "owner": "o"})
        assert answer.status == 200, answer
        slowest = max(slowest, time.monotonic() - began)
        n += 1
        time.sleep(0.01)
    thread.join()
    assert stopped == [0]
    assert slowest < 1.0, slowest
    cluster.wait_ready(others)
    assert cluster.leader(0) in others


def test_killed_leader_is_replaced(fresh):
    cluster = fresh()
    cluster.wait_ready()
    leader = cluster.leader(0)
    other = next(node for node in cluster if node is not leader)
    other.post("/lock/acquire", {"resource": "before", "owner": "o", "lease_ms": 600000})
    began = time.monotonic()
    leader.kill()
    answer = other.post("/lock/acquire", {"resource": "after", "owner": "o"})
    assert answer.status == 200, answer
    assert time.monotonic() - began < 3
    assert other.post("/lock/check", {"resource": "before", "owner": "o"})["held"] is True
    leader.start()
    cluster.wait_ready()
    assert leader.post("/lock/check", {"resource": "before", "owner": "o"})["held"] is True


def test_no_quorum(fresh):
    """Alone of three: alive, not ready, says so, and comes back with the others."""
    cluster = fresh()
    cluster.wait_ready()
    survivor = cluster["n1"]
    survivor.post("/cache/put", {"k": "a", "v": 1})
    cluster["n2"].kill()
    cluster["n3"].kill()
    wait_until(lambda: survivor.get("/readyz").status == 503, 10, "not ready")
    assert survivor.get("/health").status == 503
    assert survivor.get("/health")["quorum"] is False
    assert survivor.get("/livez").status == 200
    began = time.monotonic()
    answer = survivor.post("/cache/put", {"k": "a", "v": 2},
                           headers={"Rukun-Deadline-Ms": "1000"})
    assert answer.status in (503, 504), answer
    assert 0.5 < time.monotonic() - began < 5
    if answer.status == 503:
        assert answer["outcome"] == "not_done" and int(answer.headers["Retry-After"]) >= 1
    else:
        assert answer["outcome"] == "unknown"
    answer = survivor.post("/cache/get", {"k": "a"}, headers={"Rukun-Deadline-Ms": "500"})
    assert answer.status == 503 and answer["outcome"] == "not_done"
    answer = survivor.post("/cache/get", {"k": "a", "consistency": "local"})
    assert answer.status == 200 and answer["value"] in (1, 2)
    cluster.start()
    cluster.wait_ready()
    assert survivor.post("/cache/get", {"k": "a"}).status == 200


def test_wiped_node_is_refused(fresh):
    cluster = fresh()
    cluster.wait_ready()
    node = cluster["n2"]
    node.kill()
    node.wipe()
    node.start()
    wait_until(lambda: "replace" in node.log_text(), 15, "it is told how to be replaced")
    try:
        assert node.get("/readyz").status == 503
        assert node.raft()["number"] == 0
    except (OSError, http.client.HTTPException):
        pytest.fail("the node does not answer")
    cluster["n3"].pause()
    # One of two known voters is left: the empty node's vote must not make a majority.
    answer = cluster["n1"].post("/cache/put", {"k": "a", "v": 1},
                                headers={"Rukun-Deadline-Ms": "2500"}, timeout=10)
    assert answer.status in (503, 504), answer
    cluster["n3"].resume()
    cluster.wait_ready([cluster["n1"], cluster["n3"]])


def test_all_killed_nothing_lost(fresh):
    cluster = fresh()
    cluster.wait_ready()
    for n in range(60):
        assert cluster.nodes[n % 3].post("/cache/put", {"k": f"k{n}", "v": n}).status == 200
        assert cluster.nodes[n % 3].post("/queue/publish",
                                         {"topic": f"t{n}", "data": n}).status == 200
    for node in cluster:
        node.kill()
    cluster.start()
    cluster.wait_ready()
    for n in range(60):
        assert cluster.nodes[(n + 1) % 3].post("/cache/get", {"k": f"k{n}"})["value"] == n
        got = cluster.nodes[(n + 2) % 3].post("/queue/consume", {"topic": f"t{n}"})
        assert got["message"] == n


def test_other_cluster_name_is_refused(fresh):
    cluster = fresh(start=False)
    for node in cluster:
        node.extra = ["--cluster", "red"]
    cluster["n3"].extra = ["--cluster", "blue"]
    cluster.start()
    wait_until(lambda: "this is cluster" in cluster["n3"].log_text(), 10, "n3 is refused")
    assert not cluster["n1"].is_ready()


def test_forward_off(fresh):
    """Nodes that do not forward name the leader; a client that asks it gets its answer."""
    cluster = fresh(flags=["--forward", "off"])
    cluster.wait_ready()
    leader = cluster.leader(0)
    other = next(node for node in cluster if node is not leader)
    with other.connect() as rpc:
        with pytest.raises(RpcError) as caught:
            rpc.call("lock.acquire", resource="r", owner="o")
    problem = caught.value.problem
    assert problem["code"] == "not_leader" and problem["leader"]
    assert leader.post("/lock/acquire", {"resource": "r", "owner": "o"}).status == 200
    assert sum(node.metric("rukun_forwarded_requests_total") for node in cluster) == 0


def test_deposed_leader_serves_nothing(fresh):
    """A leader that was stopped (SIGSTOP) and runs again knows nothing newer: it answers no
    keepalive and no linearizable read from what it has."""
    cluster = fresh()
    cluster.wait_ready()
    leader = cluster.leader(0)
    other = next(node for node in cluster if node is not leader)
    session = other.post("/session/open", {"ttl_ms": 2000})["session"]
    other.post("/lock/acquire", {"resource": "r", "owner": "a", "lease_ms": 1000})
    leader.pause()
    wait_until(lambda: other.post("/lock/acquire", {"resource": "r", "owner": "b",
                                                    "wait_ms": 5000}).status == 200, 20,
               "another leader gives the lock on")
    # Looked for in the list: each keepalive would let it live on.
    wait_until(lambda: session not in str(other.post("/session/list", {}).data), 20, "it expires")
    leader.resume()
    deadline = {"Rukun-Deadline-Ms": "5000"}
    answer = leader.post("/lock/check", {"resource": "r", "owner": "a"}, headers=deadline)
    assert answer.status != 200 or answer["held"] is False
    answer = leader.post("/session/keepalive", {"session": session}, headers=deadline)
    assert answer.status != 200, answer
    cluster.wait_ready()


def test_own_folder_is_kept_apart(tmp_path):
    """Two clusters on one machine do not mix."""
    with Cluster(size=1, folder=tmp_path / "a") as one, Cluster(size=1, folder=tmp_path / "b") as two:
        one.wait_ready()
        two.wait_ready()
        assert one["n1"].map()["cluster"] != two["n1"].map()["cluster"]
