import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from probe import PROBE  # noqa: E402
from redis_server import Redis, need_redis  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def tools():
    need_redis()
    assert PROBE.exists(), f"there is no {PROBE}: build it, or set RUKUN_BUILD"


@pytest.fixture
def redis():
    with Redis() as server:
        yield server
