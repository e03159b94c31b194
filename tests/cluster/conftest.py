import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from engines import *  # noqa: E402,F401,F403
from rukun_cluster import Cluster  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    """Three nodes with a quorum, shared by the tests of a file."""
    with Cluster() as nodes:
        yield nodes.wait_ready()


@pytest.fixture
def fresh():
    """Makes clusters of a test's own: fresh(size=3, flags=[...])."""
    made = []

    def make(**options):
        made.append(Cluster(**options))
        return made[-1]

    yield make
    for nodes in made:
        nodes.close()
