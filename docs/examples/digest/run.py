#!/usr/bin/env python3
"""The whole job: a producer, workers that each begin at another node, the check.

    python3 run.py [--folder /usr/share/doc] [--count 50] [--workers 3]

Without --outputs the outputs go to a folder that is removed at the end."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid

from sources import add_arguments

HERE = pathlib.Path(__file__).resolve().parent


def start(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, HERE / script, *arguments])


def run(options: argparse.Namespace, outputs: str) -> int:
    endpoints = (options.endpoints or os.environ["RUKUN_ENDPOINTS"]).split(",")
    what = ["--folder", options.folder]
    if options.count is not None:
        what += ["--count", str(options.count)]
    topic = ["--topic", options.topic]
    everywhere = ["--endpoints", ",".join(endpoints)]
    began = time.monotonic()
    if start("producer.py", *what, *topic, *everywhere).wait() != 0:
        return 1
    workers = []
    for i in range(options.workers):
        own = endpoints[i % len(endpoints)]
        workers.append(start("worker.py", "--endpoints", own, "--outputs", outputs, *topic,
                             "--name", f"worker-{i + 1}", "--idle", "0.5"))
    failed = [worker for worker in workers if worker.wait() != 0]
    status = start("check.py", *what, *topic, *everywhere, "--outputs", outputs).wait()
    print(f"digest: {time.monotonic() - began:.1f} s")
    return 1 if failed else status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.set_defaults(topic=f"digest/{uuid.uuid4().hex}")
    parser.add_argument("--workers", type=int, default=3, help="%(default)s")
    parser.add_argument("--outputs", help="folder for the outputs")
    options = parser.parse_args()
    if options.outputs:
        return run(options, options.outputs)
    with tempfile.TemporaryDirectory(prefix="rukun-digest-") as outputs:
        return run(options, outputs)


if __name__ == "__main__":
    sys.exit(main())
