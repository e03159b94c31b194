"""The files that the rules look at, and C source with its comments and strings blanked."""

import dataclasses
import functools
import pathlib
import re
import subprocess

SKIPPED_FOLDERS = {".git", "build", "__pycache__"}


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    path: str
    line: int
    text: str
    is_note: bool = False

    def __str__(self) -> str:
        kind = "note: " if self.is_note else ""
        return f"{self.path}:{self.line}: {kind}{self.text}"


# A comment, a string or a character; the first that begins wins, as in the compiler.
_C_NOISE = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""",
    re.DOTALL | re.VERBOSE)


def _blank(match: re.Match) -> str:
    text = match.group()
    if text[0] in "\"'":
        return text[0] + " " * (len(text) - 2) + text[0]
    return re.sub(r"[^\n]", " ", text)


def code_only(text: str) -> str:
    """The text, line for line, with comments and the insides of strings as spaces."""
    return _C_NOISE.sub(_blank, text)


class Tree:
    def __init__(self, root: pathlib.Path):
        self.root = root.resolve()
        self.paths = sorted(self._list())

    def _list(self) -> list[str]:
        """What git would commit; without git, every file outside of build folders."""
        if (self.root / ".git").exists():
            listed = subprocess.run(
                ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                cwd=self.root, check=True, capture_output=True).stdout.decode()
            names = listed.split("\0")
        else:
            names = [str(path.relative_to(self.root)) for path in self.root.rglob("*")
                     if not SKIPPED_FOLDERS & set(path.relative_to(self.root).parts)]
        return [name for name in names if name and (self.root / name).is_file()]

    def select(self, *suffixes: str, under: tuple[str, ...] = ("",)) -> list[str]:
        return [path for path in self.paths
                if path.endswith(suffixes) and path.startswith(under)]

    @functools.lru_cache(maxsize=None)
    def text(self, path: str) -> str:
        return (self.root / path).read_bytes().decode("utf-8", "replace")

    @functools.lru_cache(maxsize=None)
    def code(self, path: str) -> str:
        return code_only(self.text(path))
