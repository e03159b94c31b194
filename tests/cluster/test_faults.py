"""Locks, queues and caches under faults of processes and links: short runs with a history.

Longer ones are marked slow; RUKUN_SECONDS and RUKUN_SEED set their length and the dice."""

import os

import pytest

import faults

SEED = int(os.environ.get("RUKUN_SEED", "1"))
LONG = float(os.environ.get("RUKUN_SECONDS", "120"))


@pytest.fixture
def net():
    """Makes clusters in network namespaces."""
    faults.need_network()
    made = []

    def make(**options):
        made.append(faults.NetCluster(**options))
        return made[-1].wait_ready()

    yield make
    for nodes in made:
        nodes.close()


@pytest.mark.sanitize
def test_kill_one(fresh):
    with faults.Run(fresh().wait_ready(), SEED) as run:
        run.repeat(8, faults.kill_leader, faults.kill_one).finish(faults=2)


def test_restart(fresh):
    """Planned restarts and transfers, and a node that is killed as it starts."""
    with faults.Run(fresh().wait_ready(), SEED) as run:
        run.repeat(8, faults.stop_one, faults.hand_over, faults.kill_twice).finish(faults=4)


def test_kill_all(fresh):
    with faults.Run(fresh().wait_ready(), SEED) as run:
        run.repeat(10, faults.kill_all).finish(faults=3)


def test_pause(fresh):
    with faults.Run(fresh().wait_ready(), SEED) as run:
        run.repeat(8, faults.pause_leader, faults.pause_one, faults.pause_majority).finish(
            faults=3)


def test_cut(net):
    with faults.Run(net(), SEED) as run:
        run.repeat(1, faults.cut_halves, faults.cut_leader, faults.cut_hearing,
                   faults.cut_speaking, faults.cut_bridge).finish(faults=5)


@pytest.mark.slow
@pytest.mark.parametrize("way", [
    (faults.kill_one, faults.kill_leader), (faults.kill_all,),
    (faults.pause_leader, faults.pause_one, faults.pause_majority),
    (faults.stop_one, faults.hand_over, faults.kill_twice),
    (faults.kill_leader, faults.pause_leader, faults.kill_all, faults.pause_majority)],
    ids=["kill", "all", "pause", "restart", "mixed"])
def test_long(fresh, way):
    with faults.Run(fresh().wait_ready(), SEED) as run:
        run.repeat(LONG, *way).finish(faults=8)


@pytest.mark.slow
def test_long_small_snapshots(fresh):
    """Snapshots all the time, so that restarts and slow peers go through them."""
    cluster = fresh(flags=["--snapshot-bytes", "65536"]).wait_ready()
    with faults.Run(cluster, SEED) as run:
        run.repeat(LONG, faults.kill_one, faults.pause_one, faults.kill_all, faults.hand_over,
                   faults.pause_leader, faults.kill_twice).finish(faults=8)


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 5])
def test_long_cut(net, size):
    with faults.Run(net(size=size), SEED) as run:
        run.repeat(LONG, faults.cut_halves, faults.cut_leader, faults.cut_hearing,
                   faults.cut_speaking, faults.cut_bridge,
                   faults.flap_link).finish(faults=8)


@pytest.mark.slow
def test_long_everything(net):
    """Cuts, kills and pauses together."""
    with faults.Run(net(size=3), SEED) as run:
        run.repeat(LONG, faults.cut_leader, faults.kill_one, faults.cut_bridge,
                   faults.pause_leader, faults.cut_hearing, faults.kill_all,
                   faults.cut_speaking, faults.flap_link).finish(faults=8)


def test_the_fixture_cleans_up():
    """Namespaces do not outlive their cluster, whatever happened in between."""
    faults.need_network()
    cluster = faults.NetCluster(size=3)
    spaces = list(cluster.namespaces)
    assert all(space in faults.command("ip", "netns", "list").stdout for space in spaces)
    cluster.close()
    assert not any(space in faults.command("ip", "netns", "list").stdout for space in spaces)
