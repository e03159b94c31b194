"""What docs/client-guide.md and README.md show, runs."""

import os
import re
import subprocess
import sys

import pytest
from binding_paths import BUILD, ROOT
from test_lua_layer import ENVIRONMENT as LUA_ENVIRONMENT

GUIDE = "docs/client-guide.md"
BOTH = pytest.mark.parametrize("document", [GUIDE, "README.md"])


def blocks(language, document=GUIDE):
    text = (ROOT / document).read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found
    return "\n".join(found)


def run(command, cluster, environment, text=None):
    environment = dict(environment, RUKUN_ENDPOINTS=",".join(node.rpc for node in cluster))
    done = subprocess.run(command, input=text, env=environment, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python(cluster):
    environment = dict(os.environ, PYTHONPATH=str(BUILD / "bindings/python"))
    out = run([sys.executable, "-B", "-"], cluster, environment, blocks("python"))
    assert "written under fence" in out and "wait_timeout not_done" in out
    assert out.count("@example.org") == 14


def test_python_of_the_readme(cluster):
    environment = dict(os.environ, PYTHONPATH=str(BUILD / "bindings/python"))
    out = run([sys.executable, "-B", "-"], cluster, environment, blocks("python", "README.md"))
    assert "hello" in out


@BOTH
def test_lua(cluster, document):
    text = blocks("lua", document)
    assert "fence" in run(["lua5.4", "-"], cluster, LUA_ENVIRONMENT, text)


@BOTH
@pytest.mark.parametrize("compiler", ["gcc -std=c11", "g++ -x c++"])
def test_c(cluster, tmp_path, compiler, document):
    source = tmp_path / "example.c"
    source.write_text(blocks("c", document))
    subprocess.run([*compiler.split(), "-Wall", "-Wextra", "-Werror", source, "-o",
                    tmp_path / "example", "-I", ROOT / "clients/c/include",
                    "-L", BUILD / "clients/c", "-lrukun"], check=True)
    environment = dict(os.environ, LD_LIBRARY_PATH=str(BUILD / "clients/c"))
    assert "fence" in run([tmp_path / "example"], cluster, environment)
