"""What the cluster promises as a whole: no old reads, calls that go straight to leaders,
topics spread over nodes, and caches that stay within their bound."""

import itertools
import os
import pathlib
import sys
import threading
import time

import pytest

from rukun_cluster import BUILD, ENGINE, RpcError, wait_until

sys.path.insert(0, str(BUILD / "bindings" / "python"))
rukun = pytest.importorskip("rukun", reason="the Python binding is not built")

READS = int(os.environ.get("RUKUN_READS", "10000"))


def put_again(connection, **fields):
    """Puts until that is certain: a put whose outcome a failover of the store left open is done
    again. How often that was."""
    for times in itertools.count():
        try:
            connection.call("cache.put", **fields)
            return times
        except RpcError as error:
            if error.code not in ("unknown_outcome", "unavailable") or times == 20:
                raise


def test_a_get_elsewhere_sees_the_put(cluster):
    """Puts at one node, each followed at once by a get at another from a fresh
    connection, which has no position: not one old value."""
    pairs = itertools.cycle(itertools.permutations(cluster.nodes, 2))
    writers = {node.name: node.connect() for node in cluster}
    old, repeats = [], 0
    for number in range(READS):
        here, there = next(pairs)
        key = f"fresh-{number % 7}"
        repeats += put_again(writers[here.name], key=key, value=number)
        if number % 2:
            with there.connect() as reader:
                answer = reader.call("cache.get", key=key)
        else:
            answer = there.post("/cache/get", {"k": key}).data
        if answer.get("value") != number:
            old.append((number, here.name, there.name, answer))
    for writer in writers.values():
        writer.close()
    assert not old, f"{len(old)} of {READS} reads were old: {old[:3]}"
    assert repeats == 0 or ENGINE == "redis-sentinel"


def test_a_position_is_not_forgotten(cluster):
    """Reads at any node with the position of a write see it."""
    for number in range(300):
        here, there = cluster.nodes[number % 3], cluster.nodes[(number + 1) % 3]
        put = here.post("/cache/put", {"k": "seen", "v": number})
        position = put.headers["Rukun-Position"]
        got = there.post("/cache/get", {"k": "seen"}, headers={"Rukun-Position": position})
        assert got["value"] == number


def endpoints(cluster):
    return ",".join(node.rpc for node in cluster)


def forwarded(nodes):
    return sum(node.metric("rukun_forwarded_requests_total") for node in nodes)


def work(client, name, rounds):
    """Some of everything, over all groups."""
    for number in range(rounds):
        with client.lock(f"{name}/{number}", wait=10):
            pass
        topic = client.queue(f"{name}-{number}")
        topic.publish({"n": number})
        for job in topic.consume(wait=5):
            with job:
                assert job.data == {"n": number}
            break
        cache = client.cache()
        cache.put(f"{name}-{number}", number)
        assert cache.get(f"{name}-{number}") == number


def test_the_client_goes_straight_to_leaders(fresh):
    cluster = fresh().wait_ready()
    with rukun.Client(endpoints(cluster), deadline=20) as client:
        work(client, "warm", 20)
        before = forwarded(cluster)
        work(client, "hot", 100)
        assert forwarded(cluster) == before

        victim = cluster.leader(0)
        victim.kill()
        rest = cluster.running()
        work(client, "after", 5)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            work(client, "again", 3)
        settled = forwarded(rest)
        work(client, "later", 50)
        assert forwarded(rest) == settled


def test_the_client_needs_no_forwarding(fresh):
    """All of it against nodes that forward nothing, with a leader lost in between."""
    cluster = fresh(flags=["--forward", "off"]).wait_ready()
    with rukun.Client(endpoints(cluster), deadline=20) as client:
        work(client, "first", 30)
        victim = cluster.leader(0)
        victim.kill()
        work(client, "second", 30)
        victim.start()
        cluster.wait_ready()
        work(client, "third", 30)
    assert forwarded(cluster) == 0


def leaders_of_topics(document, names):
    """Which node leads each topic, by the map that a node gives out."""
    leaders = {group["id"]: group["leader"] for group in document["groups"]}
    groups = [0] * 4096
    for first, last, group in document["slots"]:
        groups[first:last + 1] = [group] * (last - first + 1)
    return {name: leaders[groups[slot_of(name)]] for name in names}


def slot_of(name):
    xxhash = pytest.importorskip("xxhash", reason="python3-xxhash is not installed")
    return xxhash.xxh3_64_intdigest(name.encode()) % 4096


def preferred_layout(cluster):
    """Every node gives out the same map, and no node leads more than two groups above another."""
    documents = [node.map() for node in cluster.running()]
    counts = {node.name: 0 for node in cluster}
    for group in documents[0]["groups"][1:]:
        if not group["leader"]:
            return None
        counts[group["leader"]] += 1
    same = all(document["slots"] == documents[0]["slots"] and
               document["groups"] == documents[0]["groups"] for document in documents)
    return documents[0] if same and set(counts.values()) == {3} else None


def test_topics_are_spread_and_a_killed_node_moves_only_its_own(fresh):
    cluster = fresh().wait_ready()
    names = [f"topic-{number}" for number in range(1000)]
    document = wait_until(lambda: preferred_layout(cluster), what="three groups led by each node")
    before = leaders_of_topics(document, names)
    shares = {node.name: list(before.values()).count(node.name) / 10 for node in cluster}
    print(f"topics led: {shares} %")
    assert all(25 <= share <= 42 for share in shares.values()), shares

    victim = cluster["n2"]
    victim.kill()

    def all_led():
        now = cluster["n1"].map()
        return now if all(group["leader"] not in ("", None, "n2") for group in now["groups"]) \
            else None

    after = leaders_of_topics(wait_until(all_led, what="new leaders"), names)
    moved = [name for name in names if before[name] != after[name]]
    assert moved and all(before[name] == "n2" for name in moved)
    assert cluster["n3"].map()["slots"] == document["slots"]


def rss_mb(node):
    text = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if "VmRSS" in line)


@pytest.mark.embedded("bytes_max is refused: Redis's maxmemory is the bound")
def test_a_cache_stays_within_its_bound(fresh):
    """Ten times the bound is written; what is kept, and the memory of each node, stay put."""
    cluster = fresh().wait_ready()
    bound = 16 << 20
    value = "v" * 4000
    with rukun.Client(endpoints(cluster), deadline=30) as client:
        client.call("cache.configure", cache="bounded", bytes_max=bound)
        rows = []

        def fill(worker, count):
            cache = client.cache("bounded")
            for number in range(count):
                cache.put(f"{worker}-{number}", value)

        per_round = bound // 4096 // 8
        for _ in range(10):
            threads = [threading.Thread(target=fill, args=(f"{len(rows)}-{n}", per_round))
                       for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stats = client.call("cache.stats", cache="bounded")
            rows.append((stats["bytes"], [round(rss_mb(node), 1) for node in cluster]))
            assert stats["bytes"] <= bound, stats
        for size, memory in rows:
            print(f"cache {size / 2**20:.1f} MiB of {bound / 2**20:.0f}, nodes {memory} MB")
        assert stats["evicted"] > 0
        # After the bound was reached the first time, memory grows by less than the bound again.
        for first, last in zip(rows[1][1], rows[-1][1]):
            assert last - first < bound / 2**20, rows
