"""Which files the job is about; producer and check ask alike."""

import os
import pathlib
import sys


def files(folder: str, count: int | None = None) -> list[str]:
    """Paths of the regular files under the folder that can be read, in order; at most
    `count`. Links are left out: each file is one path."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if os.path.islink(path) or not os.path.isfile(path) or not os.access(path, os.R_OK):
                continue
            try:
                path.encode()
            except UnicodeEncodeError:
                print(f"left out, its name is no UTF-8: {path!r}", file=sys.stderr)
                continue
            found.append(path)
            if len(found) == count:
                return found
    return found


def add_arguments(parser) -> None:
    parser.add_argument("--folder", default="/usr/share/doc", help="files under it (%(default)s)")
    parser.add_argument("--count", type=int, help="the first COUNT of them (all)")
    add_cluster_arguments(parser)


def add_cluster_arguments(parser) -> None:
    parser.add_argument("--topic", default="digest", help="%(default)s")
    parser.add_argument("--endpoints", help="host:port,... (RUKUN_ENDPOINTS)")


def add_outputs_argument(parser) -> None:
    parser.add_argument("--outputs", type=pathlib.Path, required=True,
                        help="folder for the outputs")
