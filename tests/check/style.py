"""Sizes of functions and files, calls that are banned, marks of unfinished work."""

import ast
import os
import re
import subprocess
from collections.abc import Iterator

from tree import Finding, Tree

FUNCTION_LINES_MAX = 80
FILE_LINES_AIM = 600
FILE_LINES_MAX = 800
CODE = (".c", ".h", ".i", ".py", ".lua", ".sh", ".def")

# Tables and data that are no prose to read: they may be longer.
UNSIZED = re.compile(r"\.def$|/generated/")

ALLOCATION = "use rk_malloc and its kin (base/alloc.h)"
BOUNDS = "no bounds: use snprintf, memcpy or struct rk_buf"
PARSING = "no errors: use strtoll and check"
STATE = "hidden state"
BANNED = {
    "strcpy": BOUNDS, "strcat": BOUNDS, "sprintf": BOUNDS, "vsprintf": BOUNDS,
    "gets": BOUNDS, "stpcpy": BOUNDS, "strncat": BOUNDS, "alloca": BOUNDS,
    "strncpy": "leaves text without its NUL: use snprintf",
    "scanf": PARSING, "sscanf": PARSING, "fscanf": PARSING,
    "atoi": PARSING, "atol": PARSING, "atoll": PARSING, "atof": PARSING,
    "strtok": STATE, "rand": STATE, "srand": STATE, "asctime": STATE, "ctime": STATE,
    "gmtime": STATE, "localtime": STATE,
    "inet_ntoa": STATE, "gethostbyname": STATE,
    "tmpnam": "a race: use mkstemp", "mktemp": "a race: use mkstemp",
    "system": "a shell", "popen": "a shell",
}
ALLOCATING = {name: ALLOCATION for name in (
    "malloc", "calloc", "realloc", "reallocarray", "free", "strdup", "strndup", "asprintf",
    "vasprintf", "aligned_alloc", "posix_memalign", "memalign", "getline")}
CORE_ONLY = {name: "core is deterministic and knows no process" for name in (
    "time", "clock_gettime", "gettimeofday", "getenv", "secure_getenv", "random", "sleep",
    "usleep", "nanosleep", "pthread_create", "getrandom", "exit")}

# Places where a banned call is right, each with its reason.
ALLOWED = {
    ("core/base/alloc.c", name): "it is what everyone else uses" for name in ALLOCATING
}
CALL = re.compile(r"(?<![\w.>])([a-z_]\w*)\s*\(")

MARK = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|not implemented|unimplemented", re.IGNORECASE)
UNMARKED = ("tests/check/", "LICENSE")


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def c_functions(code: str) -> Iterator[tuple[int, int, str]]:
    """(first line, last line, name) of each function: the formatter puts the braces of a
    body in the first column, and no others."""
    lines = code.split("\n")
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line.startswith("}") and start is not None:
            head = start - 1
            while head > 1 and re.search(r"[^;}\s]\s*$", lines[head - 2]):
                if lines[head - 2].startswith(("#", "}")):
                    break
                head -= 1
            signature = " ".join(lines[head - 1:start - 1])
            names = re.findall(r"([A-Za-z_]\w*)\s*\(", signature)
            yield head, number, next((name for name in names
                                      if not name.startswith("__attribute")), "?")
            start = None


def python_functions(text: str) -> Iterator[tuple[int, int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno, node.name


def check_sizes(tree: Tree) -> Iterator[Finding]:
    for path in tree.select(*CODE):
        if UNSIZED.search(path):
            continue
        count = tree.text(path).count("\n")
        if count > FILE_LINES_MAX:
            yield Finding(path, count, f"{count} lines, more than {FILE_LINES_MAX}")
        elif count > FILE_LINES_AIM:
            yield Finding(path, count, f"{count} lines, aim at {FILE_LINES_AIM}", True)
        if path.endswith((".c", ".h")):
            functions = c_functions(tree.code(path))
        elif path.endswith(".py"):
            try:
                functions = list(python_functions(tree.text(path)))
            except SyntaxError as error:
                yield Finding(path, error.lineno or 1, f"syntax: {error.msg}")
                continue
        else:
            continue
        for first, last, name in functions:
            size = last - first + 1
            if size > FUNCTION_LINES_MAX:
                yield Finding(path, first, f"{name}: {size} lines, more than "
                                           f"{FUNCTION_LINES_MAX}")


def banned_in(path: str) -> dict[str, str]:
    banned = dict(BANNED)
    # The tool stands on the public header alone, so it has the C library's allocator.
    if path.startswith(("core/", "server/", "clients/c/")):
        banned |= ALLOCATING
    if path.startswith(("core/", "server/host/")):
        banned |= CORE_ONLY
    return banned


def check_calls(tree: Tree) -> Iterator[Finding]:
    for path in tree.select(".c", ".h"):
        banned = banned_in(path)
        code = tree.code(path)
        for match in CALL.finditer(code):
            name = match.group(1)
            if name in banned and (path, name) not in ALLOWED:
                yield Finding(path, _line_of(code, match.start(1)),
                              f"{name}(): {banned[name]}")


def check_marks(tree: Tree) -> Iterator[Finding]:
    for path in tree.select(*CODE, ".txt", ".cmake", ".md", ".yml", ".yaml", "dev", ".ci/run"):
        if path.startswith(UNMARKED):
            continue
        text = tree.text(path)
        for match in MARK.finditer(text):
            yield Finding(path, _line_of(text, match.start()),
                          f"a mark of unfinished work: {match.group()}")


def check_builds(tree: Tree) -> Iterator[Finding]:
    """Sources are named one by one, so that a forgotten file is seen, not swept in."""
    for path in tree.select("CMakeLists.txt", ".cmake"):
        text = re.sub(r"#[^\n]*", "", tree.text(path))
        for match in re.finditer(r"\bGLOB(?:_RECURSE)?\b|aux_source_directory", text):
            yield Finding(path, _line_of(text, match.start()), "sources are not swept in")


def check_scripts(tree: Tree) -> Iterator[Finding]:
    """Shell scripts parse, and say so when something in them fails."""
    for path in tree.paths:
        full = tree.root / path
        if path.endswith((".png", ".ico")) or not os.access(full, os.X_OK):
            continue
        text = tree.text(path)
        if not re.match(r"#!.*\b(?:ba|da)?sh\b", text):
            continue
        shell = "bash" if "bash" in text.split("\n", 1)[0] else "sh"
        parsed = subprocess.run([shell, "-n", full], capture_output=True, text=True)
        if parsed.returncode != 0:
            yield Finding(path, 1, f"{shell} -n: {parsed.stderr.strip()}")
        if not re.search(r"^set -\w*e", text, re.MULTILINE):
            yield Finding(path, 1, "has no set -e")
