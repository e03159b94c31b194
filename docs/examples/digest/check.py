#!/usr/bin/env python3
"""Compares the outputs with what sha256sum says.

    python3 check.py --outputs /tmp/digests --folder /usr/share/doc [--count 100]

Prints the number of duplicates: files that were digested more than once. Ends with status 1 if a
digest is missing or wrong, if the cache has another one, or if a fence did not rise."""

import argparse
import subprocess
import sys

import rukun
from outputs import Outputs
from sources import add_arguments, add_outputs_argument, files
from worker import name_of

BATCH = 500


def sha256sum(paths: list[str]) -> dict[str, str]:
    """What the program of that name says, an implementation of its own."""
    said = {}
    for start in range(0, len(paths), BATCH):
        done = subprocess.run(["sha256sum", "-z", "--", *paths[start:start + BATCH]], check=True,
                              capture_output=True)
        for line in done.stdout.decode().split("\0")[:-1]:
            digest, path = line.split("  ", 1)
            said[path] = digest
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    add_outputs_argument(parser)
    options = parser.parse_args()
    outputs = Outputs(options.outputs)
    paths = files(options.folder, options.count)
    wanted = sha256sum(paths)
    problems = []
    duplicates = writes = 0
    workers = set()
    for path in paths:
        lines = outputs.read(path)
        if not lines:
            problems.append(f"missing: {path}")
            continue
        writes += len(lines)
        duplicates += len(lines) - 1
        workers |= {line.worker for line in lines}
        if any(line.digest != wanted[path] for line in lines):
            problems.append(f"wrong: {path}")
        fences = [line.fence for line in lines]
        if any(later <= earlier for earlier, later in zip(fences, fences[1:])):
            problems.append(f"fences do not rise: {path}: {fences}")
    with rukun.Client(options.endpoints, name="digest-check", deadline=30) as client:
        problems += check_cache(client.cache("digest"), paths, wanted)
    for problem in problems[:20]:
        print(f"check: {problem}")
    print(f"check: {len(paths)} files, {writes} digests by {len(workers)} workers, "
          f"{duplicates} duplicates, {len(problems)} problems")
    return 1 if problems else 0


def check_cache(cache: rukun.Cache, paths: list[str], wanted: dict[str, str]) -> list[str]:
    problems = []
    for start in range(0, len(paths), BATCH):
        names = {name_of(path): path for path in paths[start:start + BATCH]}
        found = cache.get_many(names)
        for name, path in names.items():
            if name not in found:
                problems.append(f"not in the cache: {path}")
            elif found[name]["sha256"] != wanted[path]:
                problems.append(f"wrong in the cache: {path}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
