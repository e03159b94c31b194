import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "cluster"))

from binding_paths import BUILD  # noqa: E402
from engines import *  # noqa: E402,F401,F403
from fake_node import FakeNode  # noqa: E402

if "rukun" not in sys.modules:
    sys.path.insert(0, str(BUILD / "bindings" / "python"))


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
