"""Links that break: one of them disturbs nothing, and terms stay bounded whatever they do."""

import contextlib
import itertools
import time

import pytest

import faults
from rukun_cluster import SLOW, wait_until

TIMEOUT = 1.0  # the election timeout, as by default


@pytest.fixture
def net():
    """Makes clusters in network namespaces, with the leaders where they are wanted."""
    faults.need_network()
    made = []

    def make(**options):
        made.append(faults.NetCluster(**options))
        return settled(made[-1].wait_ready())

    yield make
    for nodes in made:
        nodes.close()


def view(node):
    """What the node says of each group: leader and term."""
    return [(line["leader"], line["term"]) for line in node.raft()["groups"]]


def terms(node):
    return [line["term"] for line in node.raft()["groups"]]


def settled(cluster):
    """Until all agree, and leaders have stopped moving to where they are wanted."""
    names = [node.name for node in cluster]
    wanted = [names[number % len(names)] for number in range(len(view(cluster.nodes[0])))]

    def agree():
        views = [view(node) for node in cluster]
        return all(one == views[0] for one in views) and [name for name, _ in views[0]] == wanted

    wait_until(agree, 40, "leaders where they are wanted")
    return cluster


@contextlib.contextmanager
def healed(cluster):
    """Around a cut: proves that packets met it, and heals it."""
    yield
    assert cluster.dropped() > 0, "nothing met the cut"
    cluster.heal()


def watch(nodes, seconds, before, servants=()):
    """The nodes see the same leaders and terms all the time, and the servants serve all groups."""
    end, worst, calls = time.monotonic() + seconds * SLOW, 0, itertools.count()
    while time.monotonic() < end:
        for node in nodes:
            assert view(node) == before, f"{node} is disturbed"
        for node in servants:
            for _ in range(9):
                start = time.monotonic()
                answer = node.post("/cache/put", {"k": f"k{next(calls)}", "v": 1})
                assert answer.status == 200, answer
                worst = max(worst, time.monotonic() - start)
    print(f"{next(calls)} calls, worst {worst * 1000:.0f} ms")
    assert worst < 0.5 * SLOW


def all_but(cluster, *nodes):
    return [node for node in cluster if node not in nodes]


def some(count, *ways):
    """The first ones always, the others with --all: they differ in little, and take seconds."""
    return [way if number < count else pytest.param(way, marks=pytest.mark.slow)
            for number, way in enumerate(ways)]


CUTS = {
    "both": lambda cluster, one, other: cluster.cut(one, other),
    "deaf": lambda cluster, one, other: cluster.drop(one, other),
    "mute": lambda cluster, one, other: cluster.drop(other, one),
    "reset": lambda cluster, one, other: cluster.cut(one, other, "REJECT"),
}


@pytest.mark.parametrize("ways", some(1, ("both", "deaf"), ("mute", "reset")))
def test_one_broken_link(net, ways):
    """Two of three do not hear each other, in one direction or both, in silence or with resets: who
    leads goes on, and its term with it."""
    cluster = net()
    for number, way in enumerate(ways):
        one, other, third = (cluster.nodes[(number + k) % 3] for k in range(3))
        before = view(third)
        with healed(cluster):
            CUTS[way](cluster, one, other)
            watch([third], 3 * TIMEOUT, before, [third])
            # Neither did those two count on, for the day when they are heard again.
            assert terms(one) == terms(other) == [term for _, term in before]
        cluster.wait_ready()
        watch(cluster, 0.5, before)


@pytest.mark.parametrize("how", some(1, "REJECT", "DROP"))
def test_a_flapping_link(net, how):
    """On and off, faster and slower than the election timeout, with resets or without."""
    cluster = net()
    one, other, third = cluster.nodes
    before = view(third)
    for pause in (0.2, 1.3):
        with healed(cluster):
            for _ in range(2):
                cluster.cut(one, other, how)
                watch([third], pause, before)
                cluster.flush()
                watch([third], pause / 2, before, [third])
    cluster.wait_ready()
    assert [view(node) for node in cluster] == [before] * 3


@pytest.mark.parametrize("ways", some(1, ((1, 2.5), (3, 0.5)), ((2, 1.6),)))
def test_a_leader_alone(net, ways):
    """Cut off it counts no terms on; the others need one or two. A node that flaps with all its
    links costs at most two terms each time."""
    cluster = net()
    for flaps, pause in ways:
        victim = cluster.leader()
        before = terms(victim)
        with healed(cluster):
            for _ in range(flaps):
                mine = terms(victim)
                for node in all_but(cluster, victim):
                    cluster.cut(victim, node)
                time.sleep(pause * SLOW)
                assert terms(victim) == mine, "it counts on alone"
                cluster.flush()
                time.sleep(pause / 2 * SLOW)
        cluster.wait_ready()
        grown = [now - then for now, then in zip(terms(victim), before)]
        print(f"{flaps} flaps of {pause} s: terms grew by {grown}")
        assert max(grown) <= 2 * flaps


@pytest.mark.slow
def test_halves_and_bridge_of_five(net):
    """The smaller half waits without counting on, and disturbs nobody when it comes back. Two
    sides that both see a fifth node go on under the leaders they had."""
    cluster = net(size=5)
    few, many = cluster.nodes[:2], cluster.nodes[2:]
    alone = [terms(node) for node in few]
    with healed(cluster):
        for one, other in itertools.product(few, many):
            cluster.cut(one, other)
        wait_until(lambda: all(name in [node.name for node in many] for node in many
                               for name, _ in view(node)), 10, "the larger half has leaders")
        cluster.wait_ready(many)
        before = view(many[0])
        watch(many, 2 * TIMEOUT, before, many[:1])
        assert [terms(node) for node in few] == alone
    cluster.wait_ready()
    assert view(many[0]) == before == view(few[0])
    settled(cluster)
    middle, left, right = cluster.nodes[0], cluster.nodes[1:3], cluster.nodes[3:]
    before = view(middle)
    with healed(cluster):
        for one, other in itertools.product(left, right):
            cluster.cut(one, other)
        watch([middle], 4 * TIMEOUT, before, [middle])
        assert all(terms(node) == [term for _, term in before] for node in cluster)
    cluster.wait_ready()
    assert view(middle) == before
