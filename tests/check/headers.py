"""Every header compiles alone: in C, and in C++ where others may include it."""

import concurrent.futures
import os
import re
import subprocess
from collections.abc import Iterator

from tree import Finding, Tree

PACKAGES = ("jansson", "msgpack", "libevent", "hiredis", "openssl")
INCLUDED = ("core", "server", "clients", "clients/c", "clients/c/include", "clients/c/src")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wundef")
C = ("gcc", "-std=c11", "-xc", "-Wstrict-prototypes")
CXX = ("g++", "-std=c++17", "-xc++")

# Seen by its own module only: it may use what C++ does not know.
PRIVATE = re.compile(r"(?:_internal|_private|/internal|/private)\.h$")


def _package_flags() -> list[str]:
    asked = subprocess.run(["pkg-config", "--cflags", *PACKAGES], capture_output=True, text=True)
    return asked.stdout.split()


def _compile(tree: Tree, path: str, compiler: tuple[str, ...], flags: list[str]) -> str:
    command = [*compiler, "-fsyntax-only", "-D_GNU_SOURCE", *WARNINGS, *flags,
               *(f"-I{tree.root / folder}" for folder in INCLUDED), "-"]
    source = f'#include "{tree.root / path}"\n'
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    return (errors or done.stderr.splitlines() or ["failed"])[0]


def is_for_cxx(path: str) -> bool:
    if PRIVATE.search(path):
        return False
    return path.startswith(("core/", "clients/c/include/"))


def check_headers(tree: Tree) -> Iterator[Finding]:
    flags = _package_flags()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {}
        for path in tree.select(".h", under=("core/", "server/", "clients/")):
            jobs[pool.submit(_compile, tree, path, C, flags)] = path
            if is_for_cxx(path):
                jobs[pool.submit(_compile, tree, path, CXX, flags)] = path
        for job in concurrent.futures.as_completed(jobs):
            if job.result():
                yield Finding(jobs[job], 1, f"does not compile alone: {job.result()}")
