"""Who may include whom. CMake's links say the same; this also sees what a link does not."""

import posixpath
import re
from collections.abc import Iterator

from tree import Finding, Tree

# Headers of the C library that know no clock, thread, socket, signal or locale.
PURE = {"errno.h", "float.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h",
        "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "stdnoreturn.h",
        "string.h", "strings.h"}
FILES = {"dirent.h", "fcntl.h", "linux/falloc.h", "linux/fs.h", "sys/file.h", "sys/ioctl.h",
         "sys/stat.h", "sys/statvfs.h", "sys/types.h", "sys/uio.h", "unistd.h"}

# Folder: (folders it may include, system headers it may include; None is any).
LAYERS = {
    "core/base": ({"core/base"}, PURE | {"execinfo.h", "unistd.h", "xxhash.h"}),
    "core/api": ({"core/base", "core/api"},
                 PURE | {"jansson.h", "math.h", "msgpack.h", "msgpack/*"}),
    "core/ring": ({"core/base", "core/ring"}, PURE),
    "core/raft": ({"core/base", "core/raft"}, PURE),
    "core/state": ({"core/base", "core/api", "core/state"}, PURE),
    # Of raft only the types that are stored: what is called goes through the host.
    "core/storage": ({"core/base", "core/raft", "core/storage"}, PURE | FILES),
    "server/host": ({"core/base", "core/api", "core/ring", "core/raft", "core/state",
                     "core/storage", "server/host"}, PURE),
    "server/redis": ({"core/base", "core/api", "core/ring", "server/redis"}, None),
    "server": ({"core/base", "core/api", "core/ring", "core/raft", "core/state",
                "core/storage", "server"}, None),
    "clients/c": ({"core/base", "core/api", "clients/c"}, None),
    "clients/cli": ({"clients/c/include", "clients/cli"}, None),
    "bindings": ({"clients/c/include", "bindings"}, None),
}

# storage may name raft's types, not call it.
RAFT_CALLS_OF_STORAGE = re.compile(
    r"\brk_raft_(?:new|init|free|fini|tick|step|propose\w*|read_index|transfer|ready|"
    r"persisted|applied)\s*\(")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
SEARCHED = ("core", "server", "clients/c/include", "clients", "clients/c", "clients/c/src")


def layer_of(path: str) -> str | None:
    """The longest folder of LAYERS that holds the path."""
    best = None
    for folder in LAYERS:
        if path.startswith(folder + "/") and (best is None or len(folder) > len(best)):
            best = folder
    return best


def resolve(path: str, included: str, known: set[str]) -> str | None:
    """The file of the project that an include in quotes means."""
    for folder in (posixpath.dirname(path), *SEARCHED):
        candidate = posixpath.normpath(posixpath.join(folder, included))
        if candidate in known:
            return candidate
    return None


def may_include(layer: str, target: str) -> bool:
    return any(target.startswith(folder + "/") for folder in LAYERS[layer][0])


def may_include_system(layer: str, header: str) -> bool:
    allowed = LAYERS[layer][1]
    if allowed is None:
        return True
    return header in allowed or posixpath.dirname(header) + "/*" in allowed


def check_includes(tree: Tree) -> Iterator[Finding]:
    known = set(tree.paths)
    for path in tree.select(".c", ".h", ".i", ".def", under=("core/", "server/", "clients/",
                                                             "bindings/")):
        layer = layer_of(path)
        if layer is None:
            yield Finding(path, 1, "lies in no layer: see LAYERS in tests/check/layers.py")
            continue
        text = tree.text(path)
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            quote, included = match.groups()
            if quote == "<":
                if not may_include_system(layer, included):
                    yield Finding(path, line, f"{layer} may not include <{included}>")
                continue
            target = resolve(path, included, known)
            if target is None:
                # Generated headers are in no layer; what they include was checked there.
                if not included.endswith((".inc", "_generated.h")):
                    yield Finding(path, line, f'"{included}" is no file of the project')
            elif not may_include(layer, target):
                yield Finding(path, line, f"{layer} may not include {target}")
        if layer == "core/storage":
            for match in RAFT_CALLS_OF_STORAGE.finditer(tree.code(path)):
                line = text.count("\n", 0, match.start()) + 1
                yield Finding(path, line, "core/storage may not call raft")
