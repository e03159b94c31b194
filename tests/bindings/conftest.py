import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = pathlib.Path(os.environ.get("RUKUN_BUILD", ROOT / "build" / "release"))
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
if "rukun" not in sys.modules:
    sys.path.insert(0, str(BUILD / "bindings" / "python"))

from fake_node import FakeNode  # noqa: E402


@pytest.fixture
def node():
    with FakeNode() as fake:
        yield fake


@pytest.fixture
def client(node):
    import rukun
    with rukun.Client(node.address, deadline=5) as made:
        yield made


@pytest.fixture(scope="module")
def cluster():
    """Three real nodes, for the tests of one file."""
    from rukun_cluster import Cluster
    with Cluster() as nodes:
        yield nodes.wait_ready()
