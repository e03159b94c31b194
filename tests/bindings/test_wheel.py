"""The wheel installs into a clean virtual environment, and what it brings takes a lock."""

import os
import subprocess
import venv

import pytest
from binding_paths import BUILD

CLEAN = {name: value for name, value in os.environ.items()
         if name not in ("PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONHOME", "VIRTUAL_ENV")}


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=CLEAN,
                          **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that has the wheel and nothing else."""
    run("cmake", "--build", str(BUILD), "--target", "rukun_wheel")
    (wheel,) = (BUILD / "bindings/wheel").glob("rukun-*.whl")
    assert "cp311" in wheel.name and "linux" in wheel.name
    folder = tmp_path_factory.mktemp("wheel") / "environment"
    venv.create(folder, with_pip=True)
    run(str(folder / "bin/pip"), "install", "--no-index", "--disable-pip-version-check",
        str(wheel))
    return str(folder / "bin/python")


def test_imports_from_the_environment(python, tmp_path):
    path, version = run(python, "-c", "import rukun, rukun.aio; print(rukun.__file__); "
                                      "print(rukun.__version__)", cwd=tmp_path).split()
    assert "/environment/" in path
    assert version in (BUILD / "CMakeCache.txt").read_text()


def test_installed_package_is_whole(python, tmp_path):
    names = run(python, "-c", "import os, rukun; print(*sorted(os.listdir("
                              "os.path.dirname(rukun.__file__))))", cwd=tmp_path).split()
    source = BUILD / "bindings/python/rukun"
    layer = {path.name for path in source.iterdir() if path.suffix in (".py", ".typed")}
    assert layer <= set(names)


def test_takes_a_lock(python, cluster, tmp_path):
    script = """if True:
        import sys, rukun
        with rukun.Client(sys.argv[1]) as client, client.lock("wheel", wait=5) as lock:
            print("held", lock.fence > 0)
    """
    assert run(python, "-c", script, cluster.nodes[0].rpc, cwd=tmp_path) == "held True\n"
