#!/usr/bin/python3
"""What the built libraries hold: no mutable globals in core, nothing but rukun_* exported.

    symbols.py BUILD-FOLDER
"""

import pathlib
import re
import subprocess
import sys

CORE = ("core/base", "core/api", "core/ring", "core/raft", "core/state", "core/storage",
        "server/host")
WRITABLE = re.compile(r"^\.(?:data|bss)(?!\.rel\.ro)")


def _nm(path: pathlib.Path, *options: str) -> list[str]:
    done = subprocess.run(["nm", *options, path], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def mutable_globals(archive: pathlib.Path) -> list[str]:
    """Objects in writable sections. A thread's own (.tbss) are not shared by anyone."""
    found = []
    for line in _nm(archive, "--format=sysv"):
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 7 and fields[3] == "OBJECT" and WRITABLE.match(fields[6]):
            found.append(fields[0])
    return found


def foreign_exports(library: pathlib.Path) -> list[str]:
    names = [line.split()[-1] for line in _nm(library, "-D", "--defined-only")]
    plain = [name.split("@")[0] for name in names]
    return [name for name in plain if not re.match(r"rukun_|RUKUN_\d|_init$|_fini$", name)]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    build = pathlib.Path(sys.argv[1])
    failed = False
    archives = [archive for folder in CORE for archive in sorted((build / folder).glob("*.a"))]
    for archive in archives:
        for name in mutable_globals(archive):
            failed = True
            print(f"{archive.name}: {name} is a mutable global")
    libraries = sorted((build / "clients/c").glob("librukun.so"))
    for library in libraries:
        for name in foreign_exports(library):
            failed = True
            print(f"{library.name}: exports {name}")
    print(f"symbols: {len(archives)} archives of core, {len(libraries)} shared libraries: "
          f"{'FAILED' if failed else 'ok'}")
    if not archives:
        print("symbols: no archive found: wrong folder?")
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
