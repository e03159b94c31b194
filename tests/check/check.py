#!/usr/bin/python3
"""The house rules that are programs: `./dev check` runs this.

    check.py [--root DIR] [RULE ...]

Prints one line a finding, as file:line: text, and exits 1 if there is any. Notes (files
that have grown past the size we aim at) do not fail.
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import headers  # noqa: E402
import layers  # noqa: E402
import style  # noqa: E402
from tree import Tree  # noqa: E402

RULES = {
    "layers": layers.check_includes,
    "sizes": style.check_sizes,
    "calls": style.check_calls,
    "marks": style.check_marks,
    "builds": style.check_builds,
    "scripts": style.check_scripts,
    "headers": headers.check_headers,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("rules", nargs="*", metavar="RULE", help=", ".join(RULES))
    options = parser.parse_args()
    unknown = set(options.rules) - set(RULES)
    if unknown:
        parser.error(f"no such rule: {', '.join(sorted(unknown))}")

    tree = Tree(options.root)
    failed = False
    for name in options.rules or RULES:
        began = time.monotonic()
        findings = sorted(RULES[name](tree))
        for finding in findings:
            print(finding)
        errors = [finding for finding in findings if not finding.is_note]
        failed = failed or bool(errors)
        verdict = f"{len(errors)} findings" if errors else "ok"
        print(f"check {name}: {verdict} ({time.monotonic() - began:.1f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
