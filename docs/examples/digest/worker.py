#!/usr/bin/env python3
"""Takes paths from the topic and writes the SHA-256 of each file.

    python3 worker.py --outputs /tmp/digests [--endpoints 127.0.0.1:7502] [--idle 5]

It ends when the topic was empty for that long. It may be killed at any moment, and started
again: what it had in hand comes back to others after its visibility timeout."""

import argparse
import hashlib
import os
import sys
import time

import rukun
from outputs import Line, Outputs, StaleFence
from sources import add_cluster_arguments, add_outputs_argument

VISIBILITY = 10.0
LOCK_WAIT = 20.0
NAME_BYTES_MAX = 500


def name_of(path: str) -> str:
    """Of the lock and of the cache key: the path, or a digest of one that is too long."""
    name = "digest" + path
    if len(name.encode()) > NAME_BYTES_MAX:
        name = "digest#" + hashlib.sha256(path.encode()).hexdigest()
    return name


def digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Worker:
    def __init__(self, client: rukun.Client, topic: str, outputs: Outputs, name: str):
        self.client = client
        self.queue = client.queue(topic)
        self.cache = client.cache("digest")
        self.outputs = outputs
        self.name = name
        self.count = 0

    def process(self, path: str) -> None:
        name = name_of(path)
        with self.client.lock(name, wait=LOCK_WAIT) as lock:
            digest = digest_of(path)
            lock.check()
            self.outputs.write(path, Line(lock.fence, self.name, digest))
            self.cache.put(name, {"sha256": digest, "worker": self.name}, fence=lock.fence)
        self.count += 1

    def take_jobs(self, idle: float) -> None:
        """Until none came for `idle` seconds."""
        for job in self.queue.consume(visibility=VISIBILITY, wait=idle):
            with job:
                self.process(job.data)

    def is_over(self) -> bool:
        """Nothing is left, also not in others' hands, whose work may come back."""
        try:
            info = self.queue.info()
        except rukun.NotFound:
            return True
        return info["ready"] + info["delayed"] + info["in_flight"] == 0

    def run(self, idle: float) -> None:
        while True:
            try:
                self.take_jobs(idle)
                if self.is_over():
                    return
            except (rukun.Error, StaleFence) as error:
                # The job is on its way back by now; others are waiting.
                print(f"{self.name}: {error!r}; going on", file=sys.stderr)
                time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_cluster_arguments(parser)
    add_outputs_argument(parser)
    parser.add_argument("--idle", type=float, default=3.0, help="seconds (%(default)s)")
    parser.add_argument("--name", default=f"worker-{os.getpid()}")
    options = parser.parse_args()
    with rukun.Client(options.endpoints, name=options.name, deadline=15) as client:
        worker = Worker(client, options.topic, Outputs(options.outputs), options.name)
        worker.run(options.idle)
        print(f"{options.name}: {worker.count} digests")


if __name__ == "__main__":
    main()
