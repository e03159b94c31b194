"""The same steps in C, Python and Lua against a real cluster say the same."""

import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest
from binding_paths import BUILD, ROOT
from test_lua_layer import ENVIRONMENT as LUA_ENVIRONMENT

HERE = pathlib.Path(__file__).resolve().parent

EXPECTED = """\
connect: connect
lock: safe
second try: held
short wait: wait_timeout
second release: not_owner
fence rises: yes
same publish id: same
delivered: {"n":1} attempt 1
message id: same
second ack: gone
left: 0
redelivered: attempt 2 size 2
stale ack: stale_delivery
after nack: attempt 3
absent: none
value: [1,2] version same
wrong version: version_mismatch
not absent: exists
right version: rises
deleted: yes
deleted again: no
counter: 1099511627773
call: 0
closed: closed
"""


def run(command, environment=None, seconds=60):
    done = subprocess.run(command, env=environment, capture_output=True, text=True,
                          timeout=seconds)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def endpoints(cluster):
    return ",".join(node.rpc for node in cluster)


@pytest.fixture(scope="module")
def smoke_program(tmp_path_factory):
    """Compiled and linked as an application would be."""
    if not (BUILD / "clients/c/librukun.so").exists():
        pytest.fail(f"no librukun.so in {BUILD}")
    program = tmp_path_factory.mktemp("smoke") / "smoke"
    run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", HERE / "smoke.c", "-o", program,
         "-I", ROOT / "clients/c/include", "-L", BUILD / "clients/c", "-lrukun"])
    return program


def test_c(cluster, smoke_program):
    environment = dict(os.environ, LD_LIBRARY_PATH=str(BUILD / "clients/c"))
    assert run([smoke_program, endpoints(cluster), uuid.uuid4().hex], environment) == EXPECTED


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind here")
def test_c_leaks_nothing(cluster, smoke_program):
    environment = dict(os.environ, LD_LIBRARY_PATH=str(BUILD / "clients/c"))
    assert run(["valgrind", "-q", "--leak-check=full", "--error-exitcode=9", smoke_program,
                endpoints(cluster), uuid.uuid4().hex], environment, 240) == EXPECTED


def python_environment():
    return dict(os.environ, PYTHONPATH=str(BUILD / "bindings/python"))


def test_python(cluster):
    assert run([sys.executable, "-B", HERE / "smoke.py", endpoints(cluster), uuid.uuid4().hex],
               python_environment()) == EXPECTED


def test_lua(cluster):
    assert run(["lua5.4", HERE / "smoke.lua", endpoints(cluster), uuid.uuid4().hex],
               LUA_ENVIRONMENT) == EXPECTED


@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_single_endpoint_is_enough(cluster, which):
    run([sys.executable, "-B", HERE / "smoke.py", cluster.nodes[which].rpc, uuid.uuid4().hex],
        python_environment())


def test_http_endpoint(cluster):
    run([sys.executable, "-B", HERE / "smoke.py", "http://" + cluster.nodes[1].http,
         uuid.uuid4().hex], python_environment())


def test_all_where_nodes_do_not_forward(smoke_program):
    from rukun_cluster import Cluster
    with Cluster(flags=["--forward", "off"]) as nodes:
        nodes.wait_ready()
        environment = dict(os.environ, LD_LIBRARY_PATH=str(BUILD / "clients/c"))
        for command, environment in (
                ([smoke_program], environment),
                ([sys.executable, "-B", HERE / "smoke.py"], python_environment()),
                (["lua5.4", HERE / "smoke.lua"], LUA_ENVIRONMENT)):
            assert run([*command, nodes.nodes[1].rpc, uuid.uuid4().hex], environment) == EXPECTED
