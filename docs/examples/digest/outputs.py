"""The store of the outputs: a file for each source, a line for each time it was written.

A lock alone cannot keep a writer out that was cut off and does not know yet that its lease
ran out. So each write brings the fence of its lock, the store keeps the highest it has seen,
and refuses what is not above it, however late it comes."""

import dataclasses
import fcntl
import os
import pathlib


class StaleFence(Exception):
    """A write with a higher fence was here before."""


@dataclasses.dataclass(frozen=True)
class Line:
    fence: int
    worker: str
    digest: str


class Outputs:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def path_of(self, source: str) -> pathlib.Path:
        return self.folder / (source.lstrip("/") + ".sha256")

    def write(self, source: str, line: Line) -> None:
        """Adds a line. StaleFence: its fence is not above all that were written before."""
        path = self.path_of(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            lines, size = parse(file.read())
            if lines and lines[-1].fence >= line.fence:
                raise StaleFence(f"{source}: fence {line.fence} after {lines[-1].fence}")
            file.truncate(size)  # what a worker left behind that died within its write
            file.write(f"{line.fence} {line.worker} {line.digest}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self, source: str) -> list[Line]:
        """All lines, oldest first; none if it was never written."""
        try:
            return parse(self.path_of(source).read_bytes())[0]
        except FileNotFoundError:
            return []


def parse(data: bytes) -> tuple[list[Line], int]:
    """The whole lines, and how many bytes they are."""
    size = data.rfind(b"\n") + 1
    lines = []
    for text in data[:size].decode().splitlines():
        fence, worker, digest = text.split(" ")
        lines.append(Line(int(fence), worker, digest))
    return lines, size
