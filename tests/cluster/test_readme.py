"""The sixty seconds of README.md, each language, against a cluster: what is printed there runs."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
NEEDED = "PYTHONPATH"  # of `./dev env`, which `./dev test` sets


def blocks(language):
    tour = README.split("## Sixty seconds")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", tour, re.DOTALL)


@pytest.fixture(scope="module")
def environment(cluster):
    if "bindings/python" not in os.environ.get(NEEDED, ""):
        pytest.skip('eval "$(./dev env)" was not done')
    return os.environ | {"RUKUN_ENDPOINTS": ",".join(node.rpc for node in cluster)}


def run(command, environment, folder, **options):
    done = subprocess.run(command, env=environment, cwd=folder, text=True, timeout=60,
                          capture_output=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_python(environment, tmp_path):
    (block,) = blocks("python")
    (tmp_path / "tour.py").write_text(block)
    out = run(["/usr/bin/python3", "tour.py"], environment, tmp_path)
    assert "fence" in out and "ada@example.org" in out and "hello" in out


def test_c(environment, tmp_path):
    (block,) = blocks("c")
    (tmp_path / "tour.c").write_text(block)
    command = re.search(r"\(`(gcc tour.c[^`]*)`\)", README).group(1)
    run(command.split(), environment, tmp_path)
    assert "fence" in run(["./tour"], environment, tmp_path)


def test_lua(environment, tmp_path):
    (block,) = blocks("lua")
    (tmp_path / "tour.lua").write_text(block)
    out = run(["lua5.4", "tour.lua"], environment, tmp_path)
    assert "fence" in out and "hello" in out


def test_curl_and_shell(environment, cluster, tmp_path):
    curl, shell = blocks("sh")[-2:]
    for number, node in enumerate(cluster, 1):
        curl = curl.replace(f"localhost:740{number}", node.http)
    out = run(["bash", "-e", "-c", curl], environment, tmp_path)
    for text in ('"granted":true', '"code":"held"', '"released":true', '"message":{"n":1}',
                 '"value":[1,2,3]'):
        assert text in out.replace(" ", ""), out
    for name in ("backup.sh", "report"):
        (tmp_path / name).write_text("#!/bin/sh\necho ran with fence $RUKUN_FENCE\n")
        (tmp_path / name).chmod(0o755)
    out = run(["bash", "-e", "-c", shell], environment, tmp_path)
    assert out.count("ran with fence") == 2 and '{"to":"ada"}' in out and "leader" in out
