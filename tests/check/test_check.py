"""The rules themselves: each finds what it is for, in a small tree, and nothing else."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import headers  # noqa: E402
import layers  # noqa: E402
import style  # noqa: E402
from tree import Tree, code_only  # noqa: E402


@pytest.fixture
def findings(tmp_path):
    def run(rule, files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if text.startswith("#!"):
                path.chmod(0o755)
        return [str(finding) for finding in sorted(rule(Tree(tmp_path)))]
    return run


def test_comments_and_strings_are_no_code():
    code = code_only('a("free(x)"); /* free(y)\n free(z) */ b(\'"\'); // free(w)\nfree(v);')
    assert code.count("\n") == 2
    assert code.count("free") == 1


def test_layers(findings):
    assert findings(layers.check_includes, {
        "core/base/a.h": "#include <stdint.h>\n",
        "core/raft/b.c": '#include "base/a.h"\n#include "raft/c.h"\n#include "c.h"\n',
        "core/raft/c.h": '#include "state/d.h"\n',
        "core/state/d.h": "#include <time.h>\n",
        "core/storage/e.c": '#include "raft/c.h"\nvoid f(void)\n{\n    rk_raft_step(x);\n}\n',
        "server/host/f.c": "#include <pthread.h>\n",
        "server/rukund/g.c": '#include <pthread.h>\n#include "host/h.h"\n#include "gone.h"\n',
        "server/host/h.h": "",
        "clients/c/src/i.c": '#include "raft/c.h"\n#include "rukun.h"\n',
        "clients/c/include/rukun.h": "",
        "bindings/j.i": '#include "base/a.h"\n#include "rukun.h"\n',
        "core/odd.c": "",
    }) == [
        "bindings/j.i:1: bindings may not include core/base/a.h",
        "clients/c/src/i.c:1: clients/c may not include core/raft/c.h",
        "core/odd.c:1: lies in no layer: see LAYERS in tests/check/layers.py",
        "core/raft/c.h:1: core/raft may not include core/state/d.h",
        "core/state/d.h:1: core/state may not include <time.h>",
        "core/storage/e.c:4: core/storage may not call raft",
        "server/host/f.c:1: server/host may not include <pthread.h>",
        'server/rukund/g.c:3: "gone.h" is no file of the project',
    ]


def c_function(line_count):
    """A function whose head and body together have that many lines."""
    return "static int f(int a,\n             int b)\n{\n" + "    a++;\n" * (line_count - 4) + "}\n"


def test_sizes(findings):
    assert findings(style.check_sizes, {
        "core/base/a.c": "int x;\n\n" + c_function(80),
        "core/base/b.c": "int x;\n\n" + c_function(81),
        "core/base/c.c": "int x;\n" * 601,
        "core/base/d.c": "int x;\n" * 801,
        "tests/e.py": "def f():\n" + "    g()\n" * 80,
        "tests/f.py": "def f(:\n",
    }) == [
        "core/base/b.c:3: f: 81 lines, more than 80",
        "core/base/c.c:601: note: 601 lines, aim at 600",
        "core/base/d.c:801: 801 lines, more than 800",
        "tests/e.py:1: f: 81 lines, more than 80",
        "tests/f.py:1: syntax: invalid syntax",
    ]


def test_calls(findings):
    assert findings(style.check_calls, {
        "core/base/alloc.c": "void *f(void)\n{\n    return malloc(1);\n}\n",
        "core/base/b.c": "/* free(x) */\nrk_free(x);\nops->free(x);\nfree (x);\n",
        "core/raft/c.c": "time(NULL);\n",
        "server/rukund/d.c": "time(NULL);\nstrcpy(a, b);\n",
        "tests/unit/e.c": "free(x);\nn = atoi(x);\n",
    }) == [
        f"core/base/b.c:4: free(): {style.ALLOCATION}",
        "core/raft/c.c:1: time(): core is deterministic and knows no process",
        f"server/rukund/d.c:2: strcpy(): {style.BOUNDS}",
        f"tests/unit/e.c:2: atoi(): {style.PARSING}",
    ]


def test_marks_builds_and_scripts(findings):
    files = {
        "core/a.c": "int a; /* TO" + "DO later */\n",
        "core/CMakeLists.txt": "# no GLOB here\nfile(GLOB all *.c)\n",
        "dev": "#!/bin/bash\nset -euo pipefail\nif true; then\n",
        "run.sh": "#!/bin/sh\ntrue\n",
    }
    assert findings(style.check_marks, files) == [
        "core/a.c:1: a mark of unfinished work: TO" + "DO"]
    assert findings(style.check_builds, files) == [
        "core/CMakeLists.txt:2: sources are not swept in"]
    dev, run = findings(style.check_scripts, files)
    assert dev.startswith("dev:1: bash -n:")
    assert run == "run.sh:1: has no set -e"


def test_headers(findings):
    found = findings(headers.check_headers, {
        "core/base/good.h": "#include <stddef.h>\nstatic inline size_t f(void)\n{ return 0; }\n",
        "core/base/needs.h": "size_t f(void);\n",
        "core/base/only_c.h": "static inline int *f(void *p)\n{ return p; }\n",
        "core/base/only_c_internal.h": "static inline int *f(void *p)\n{ return p; }\n",
    })
    assert len(found) == 3
    assert found[0].startswith("core/base/needs.h:1: does not compile alone")
    assert found[1].startswith("core/base/needs.h:1: does not compile alone")
    assert found[2].startswith("core/base/only_c.h:1: does not compile alone")
