#!/usr/bin/env python3
"""Publishes the path of every file under a folder to a topic.

    python3 producer.py --folder /usr/share/doc [--count 100]

The path is the publish id, too: run again, after a crash for instance, it adds only what is
missing (as long as the topic remembers ids; 5 minutes by default)."""

import argparse
import sys
import time

import rukun
from sources import add_arguments, files

BATCH = 200


def publish(queue: rukun.Queue, paths: list[str]) -> None:
    """Until it is certain: with ids, once more is harmless."""
    while True:
        try:
            queue.publish_many(paths, ids=paths)
            return
        except rukun.Error as error:
            if not error.retryable:
                raise
            print(f"producer: {error}; once more", file=sys.stderr)
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    options = parser.parse_args()
    paths = files(options.folder, options.count)
    with rukun.Client(options.endpoints, name="digest-producer", deadline=30) as client:
        queue = client.queue(options.topic)
        for start in range(0, len(paths), BATCH):
            publish(queue, paths[start:start + BATCH])
    print(f"producer: {len(paths)} paths published to {options.topic}")


if __name__ == "__main__":
    main()
