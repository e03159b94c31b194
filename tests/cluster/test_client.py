"""librukun under load, with nodes that die: many threads on one client, interrupts, a fork,
and a close while calls are under way. Under sanitizers, too."""

import json
import subprocess

import pytest

from rukun_cluster import BUILD, SLOW

STRESS = BUILD / "tests" / "client" / "client_stress"


def start(cluster, seconds, threads=8):
    endpoints = ",".join(node.rpc for node in cluster)
    return subprocess.Popen([STRESS, endpoints, str(seconds), str(threads)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, seconds):
    out, errors = process.communicate(timeout=(seconds + 30) * SLOW)
    assert process.returncode == 0, f"exit {process.returncode}\n{errors[-4000:]}\n{out}"
    assert "ThreadSanitizer" not in errors and "AddressSanitizer" not in errors, errors
    return json.loads(out)


@pytest.mark.sanitize
def test_stress(fresh):
    cluster = fresh().wait_ready()
    done = finish(start(cluster, 4), 4)
    print(done)
    assert done["locks"] > 10 and done["messages"] > 10 and done["reads"] > 10


@pytest.mark.sanitize
def test_stress_while_nodes_die(fresh):
    cluster = fresh().wait_ready()
    process = start(cluster, 12)
    for _ in range(2):
        victim = cluster.leader(0)
        victim.kill()
        cluster.leader(0)
        victim.start()
        cluster.wait_ready()
    done = finish(process, 12)
    print(done)
    assert done["locks"] > 10 and done["messages"] > 10 and done["reads"] > 10
