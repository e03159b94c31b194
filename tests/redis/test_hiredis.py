"""The client of Redis with hiredis 1.x, which Debian does not have: it compiles without a
warning, and passes the same tests.

The source comes with the Python package `hiredis`, from PyPI; RUKUN_HIREDIS names a folder
that holds one already (the one with read.c)."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

from redis_server import ROOT

PACKAGE = "hiredis==3.4.2"  # holds hiredis 1.4.0
PROGRAMS = ["test_redis_reply", "test_redis_redis", "test_redis_links", "test_redis_calls"]
PARTS = ["alloc", "async", "hiredis", "net", "read", "sds", "sockcompat"]


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                          **options)
    assert done.returncode == 0, f"{command[:3]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def fetch(folder):
    """The folder of hiredis's sources."""
    if "RUKUN_HIREDIS" in os.environ:
        return pathlib.Path(os.environ["RUKUN_HIREDIS"])
    done = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary",
                           ":all:", "--no-build-isolation", "-d", folder, PACKAGE],
                          capture_output=True, text=True, check=False)
    found = list(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not found:
        pytest.skip(f"pip can not fetch {PACKAGE}, which holds hiredis 1.x; RUKUN_HIREDIS may name "
                    f"a folder with its sources: {done.stderr.strip()[-300:]}")
    with tarfile.open(found[0]) as archive:
        archive.extractall(folder)
    return next(folder.glob("*/vendor/hiredis"))


def install(source, prefix):
    """What a package would: headers, a library, and a file for pkg-config. Its version."""
    header = (source / "hiredis.h").read_text()
    version = ".".join(re.search(rf"define HIREDIS_{part} (\d+)", header)[1]
                       for part in ("MAJOR", "MINOR", "PATCH"))
    (prefix / "include").mkdir()
    shutil.copytree(source, prefix / "include" / "hiredis")
    objects = []
    for part in PARTS:
        objects.append(prefix / f"{part}.o")
        run("gcc", "-O2", "-fPIC", "-c", source / f"{part}.c", "-o", objects[-1])
    run("ar", "rcs", prefix / "libhiredis.a", *objects)
    (prefix / "hiredis.pc").write_text(
        f"Name: hiredis\nDescription: client of Redis\nVersion: {version}\n"
        f"Cflags: -I{prefix}/include\nLibs: -L{prefix} -lhiredis\n")
    return version


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hiredis")
    source = fetch(folder)
    prefix = folder / "prefix"
    prefix.mkdir()
    assert install(source, prefix).startswith("1.")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(prefix)}
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    run("cmake", "-S", ROOT, "-B", folder / "build", "-G", "Ninja", "-DCMAKE_C_COMPILER=gcc",
        "-DRK_BINDINGS=OFF", *launcher, env=environment)
    run("cmake", "--build", folder / "build", "--target", *PROGRAMS, "redis_probe", "rukund",
        env=environment)
    return folder / "build"


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_units(build, program):
    path = build / "tests" / "unit" / "redis" / program
    assert "libhiredis" not in run("ldd", path), "it has the library of the test's own"
    run(path)


@pytest.mark.slow
def test_with_a_real_server(build):
    run(sys.executable, "-B", "-m", "pytest", "-q", "-m", "not slow",
        ROOT / "tests" / "redis" / "test_single.py", cwd=ROOT,
        env={**os.environ, "RUKUN_BUILD": str(build)})
