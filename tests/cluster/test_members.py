"""Members that come, go, move and are replaced, with the tool `rukun`, under load with a history."""

import json
import os
import re
import subprocess
import time

import pytest

import faults
from rukun_cluster import BUILD, SLOW, free_ports, wait_until

RUKUN = BUILD / "clients" / "cli" / "rukun"
SEED = int(os.environ.get("RUKUN_SEED", "1"))


def rukun(cluster, *words, code=0, at=None):
    """The tool, asking the nodes that run (or one)."""
    endpoints = at.rpc if at else ",".join(node.rpc for node in cluster.running())
    done = subprocess.run([RUKUN, *words], text=True, capture_output=True, timeout=120 * SLOW,
                          env={**os.environ, "RUKUN_ENDPOINTS": endpoints})
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stderr}\n{cluster.logs()}"
    return done.stdout + done.stderr


def members(node):
    return {line["name"]: line for line in node.map()["nodes"]}


def roles(node):
    return {name: line["role"] for name, line in members(node).items()}


def state(node):
    """What the node says it is; "" while it does not answer."""
    try:
        return node.raft()["state"]
    except OSError:
        return ""


def add(cluster, name):
    node = cluster.grow(name)
    rukun(cluster, "cluster", "add", name, "--peer", node.peer)
    node.start()
    rukun(cluster, "cluster", "promote", name, "--wait", "60s")
    return node


def remove(cluster, node):
    """The node learns that it is out, then its process ends gracefully."""
    rukun(cluster, "cluster", "remove", node.name, "--wait", "60s")
    wait_until(lambda: state(node) == "removed", 10, f"{node.name} knows that it is out")
    assert node.post("/cache/get", {"k": "a"}).status == 503
    assert node.get("/readyz").status == 503
    cluster.nodes.remove(node)
    assert node.stop() == 0


def test_three_to_five_and_back(fresh):
    cluster = fresh(flags=["--snapshot-bytes", "262144"]).wait_ready()
    with faults.Run(cluster, SEED) as run:
        run.sleep(1)
        for name in ("n4", "n5"):
            run.note(f"add {name}")
            add(cluster, name).cluster.wait_ready()
        assert set(roles(cluster["n1"]).values()) == {"voter"}
        assert [line["number"] for line in cluster["n5"].map()["nodes"]] == [1, 2, 3, 4, 5]
        # Five hold two losses.
        faults.kill_one(run)
        run.sleep(1)
        for name in ("n1", "n4"):
            run.note(f"remove {name}")
            remove(cluster, cluster[name])
            cluster.wait_ready()
        assert roles(cluster["n5"]) == {"n2": "voter", "n3": "voter", "n5": "voter"}
        faults.kill_leader(run)
        run.sleep(1)
        run.finish(faults=1)


def test_a_wiped_node_is_replaced(fresh):
    cluster = fresh(flags=["--snapshot-bytes", "262144"]).wait_ready()
    with faults.Run(cluster, SEED) as run:
        run.sleep(1)
        for number, name in ((4, "n2"), (5, "n1")):
            node = cluster[name]
            run.note(f"wipe {name}")
            node.kill()
            node.wipe()
            node.start()
            wait_until(lambda: f"rukun cluster replace {name}" in state(node), 10,
                       "the node is refused and told the command")
            rukun(cluster, "cluster", "replace", name, "--wait", "60s", at=cluster["n3"])
            cluster.wait_ready()
            assert members(cluster["n3"])[name]["number"] == number
        run.finish(faults=0)


def test_changed_addresses(fresh):
    """A node moves to other ports: the others, whose --peers name the old one, follow; and a
    later start of theirs finds it."""
    cluster = fresh().wait_ready()
    node = cluster["n2"]
    with faults.Run(cluster, SEED) as run:
        for is_told in (False, True):
            run.sleep(0.5)
            assert node.stop() == 0
            ports = [f"127.0.0.1:{port}" for port in free_ports(3)]
            if is_told:  # by a setting of its own; its --peers still names the former one
                node.extra = ["--advertise-peer", ports[2]]
            else:
                node.peers = cluster.peers.replace(node.peer, ports[2])
            node.http, node.rpc, node.peer = ports
            node.start()
            cluster.wait_ready()
            for other in cluster:
                wait_until(lambda: members(other)["n2"]["peer"] == node.peer, 10, "the address")
            assert members(cluster["n1"])["n2"]["rpc"] == node.rpc
        run.sleep(2)  # until it stands in the member table
        # n1 and n2 alone are a majority. n1 moves, too, so that n2 does not find it: it must find n2
        # by what it remembers.
        first = cluster["n1"]
        cluster["n3"].kill()
        first.kill()
        first.http, first.rpc, first.peer = (f"127.0.0.1:{port}" for port in free_ports(3))
        first.extra = ["--advertise-peer", first.peer]
        first.start()
        cluster.wait_ready([first, node])
        cluster["n3"].start()
        run.finish(share=0, faults=0, calls=0)


def test_a_learner_does_not_vote(fresh):
    cluster = fresh().wait_ready()
    node = cluster.grow("n4")
    text = rukun(cluster, "cluster", "add", "n4", "--peer", node.peer, "--learner")
    assert "start it with an empty data folder" in text
    # Nobody comes yet.
    rukun(cluster, "cluster", "promote", "n9", code=1)
    rukun(cluster, "cluster", "add", "n4", "--peer", node.peer, code=1)
    assert roles(cluster["n1"])["n4"] == "joining"
    node.start()
    wait_until(lambda: roles(cluster["n1"]).get("n4") == "learner", 20, "a learner")
    wait_until(lambda: cluster["n1"].map()["reconciled"], 10, "all groups agree")
    wait_until(node.is_ready, 10, "it serves")
    assert node.post("/cache/put", {"k": "a", "v": 1}).status == 200
    assert node.post("/cache/get", {"k": "a"})["value"] == 1
    assert {group["role"] for group in node.raft()["groups"]} == {"learner"}
    # Two of three voters are a quorum, one of them with a learner is none.
    cluster["n2"].kill()
    assert cluster["n1"].post("/cache/put", {"k": "a", "v": 2}).status == 200
    cluster["n3"].kill()
    answer = cluster["n1"].post("/cache/put", {"k": "a", "v": 3},
                                headers={"Rukun-Deadline-Ms": "1500"})
    assert answer.status in (503, 504)
    cluster["n2"].start()
    cluster["n3"].start()
    cluster.wait_ready()
    rukun(cluster, "cluster", "promote", "n4", "--wait", "30s")
    wait_until(lambda: roles(cluster["n1"])["n4"] == "voter", 5, "n1 sees it, too")


def test_info_and_transfer(fresh):
    cluster = fresh().wait_ready()
    text = rukun(cluster, "cluster", "info")
    for node in cluster:
        assert re.search(rf"^{node.name} +\d +{node.http} +{node.rpc} +{node.peer} +voter +true",
                         text, re.M), text
    shown = json.loads(rukun(cluster, "-o", "json", "cluster", "info"))
    assert shown["reconciled"] is True and len(shown["groups"]) == 10
    for name in ("n2", "n1", "n3"):
        assert "true" in rukun(cluster, "cluster", "transfer", "4", "--to", name)
        assert cluster.leader(4).name == name
    assert "no such voter" in rukun(cluster, "cluster", "transfer", "4", "--to", "n9", code=1)


def test_leaders_spread_over_the_new_ones(fresh):
    cluster = fresh().wait_ready()
    add(cluster, "n4")

    def leaders():
        return {group["leader"] for group in cluster["n1"].map()["groups"]}

    wait_until(lambda: leaders() == {"n1", "n2", "n3", "n4"}, 40, "each node leads something")
    remove(cluster, cluster["n4"])
    wait_until(lambda: leaders() == {"n1", "n2", "n3"}, 40, "the leaders are back")


@pytest.mark.slow
def test_long(fresh):
    """Round after round: a node more, one less, one wiped, with kills in between."""
    cluster = fresh(flags=["--snapshot-bytes", "262144"]).wait_ready()
    end = time.monotonic() + float(os.environ.get("RUKUN_SECONDS", "120")) * SLOW
    number = 3
    with faults.Run(cluster, SEED) as run:
        while time.monotonic() < end:
            number += 1
            run.note(f"add n{number}")
            add(cluster, f"n{number}")
            faults.kill_leader(run)
            cluster.wait_ready()
            victim = run.rng.choice(cluster.nodes)
            run.note(f"remove {victim.name}")
            remove(cluster, victim)
            faults.kill_one(run)
            cluster.wait_ready()
            victim = run.rng.choice(cluster.nodes)
            run.note(f"wipe {victim.name}")
            victim.kill()
            victim.wipe()
            victim.peers = ",".join(f"{node.name}={node.peer}" for node in cluster.nodes)
            victim.start()
            others = [node for node in cluster.nodes if node is not victim]
            rukun(cluster, "cluster", "replace", victim.name, "--wait", "60s", at=others[0])
            cluster.wait_ready()
        run.finish(faults=0)
