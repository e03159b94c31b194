"""Bytes that flip on a disk: refused by file and offset, at the start or in a node that runs; the
node is replaced under a new number while the load goes on, and nothing acknowledged is lost."""

import contextlib
import os
import re
import subprocess

import pytest

import faults
from rukun_cluster import BUILD, RUKUND, SLOW, wait_until

RUKUN = BUILD / "clients" / "cli" / "rukun"
SEED = int(os.environ.get("RUKUN_SEED", "1"))
HEAD = 48  # bytes of a batch before its records


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def inspect(node, code=None):
    done = subprocess.run([str(RUKUND), "inspect", str(node.data), "--records"], text=True,
                          capture_output=True, timeout=20, check=False)
    assert code is None or done.returncode == code, done.stdout[-2000:] + done.stderr
    return done.stdout


class Batch:
    def __init__(self, path, line):
        self.path = path
        self.number, self.offset, self.size, _, self.durable = (
            int(word) for word in re.findall(r"batch (\d+) offset (\d+) bytes (\d+) records (\d+) "
                                             r"durable (\d+)", line)[0])
        self.kinds = set()


def batches(node):
    found, path = [], None
    for line in inspect(node, 0).splitlines():
        words = line.split()
        if words[0] == "segment":
            path = words[2]
        elif words[0] == "batch":
            found.append(Batch(path, line))
        elif line.startswith("    "):
            found[-1].kinds.add(words[0])
    # Damage to one that no later batch vouches for is a torn tail.
    durable = max(batch.durable for batch in found)
    return [batch for batch in found if batch.size > 0 and batch.number <= durable]


# Each gives the file, the byte to flip, and the texts that the refusal must hold.


def log_middle(node):
    some = [batch for batch in batches(node) if "entry" in batch.kinds]
    batch = some[len(some) // 2]
    return batch.path, batch.offset + HEAD + batch.size // 2, f"offset {batch.offset}"


def log_tail(node):
    """The last batch, with a good one after it that says nothing but that it was there."""
    batch = batches(node)[-1]
    return batch.path, batch.offset + HEAD + batch.size // 2, f"offset {batch.offset}"


def batch_head(node):
    batch = batches(node)[-1]
    return batch.path, batch.offset + 9, f"offset {batch.offset}"


def vote(node):
    """Nothing but terms and votes stands in that batch."""
    batch = next(batch for batch in batches(node) if batch.kinds == {"hard-state"})
    return batch.path, batch.offset + HEAD + 3, f"offset {batch.offset}"


def segment_head(node):
    path = batches(node)[0].path
    return path, 20, "offset 0"


def opening(node):
    batch = batches(node)[0]
    return batch.path, batch.offset + HEAD + 1, f"offset {batch.offset}"


def log_id(node):
    return node.data / "wal" / "id", 17, "offset 0"


def snapshot(node):
    path = sorted(node.data.glob("snap/*.snap"))[0]
    return path, path.stat().st_size // 2, "offset "


def rukun(cluster, *words, at):
    done = subprocess.run([RUKUN, *words], text=True, capture_output=True, timeout=120 * SLOW,
                          env={**os.environ, "RUKUN_ENDPOINTS": at.rpc}, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}\n{cluster.logs()}"


def replace(run, node):
    """As the log of the refused node says."""
    cluster = run.cluster
    run.note(f"heal: replace {node.name}")
    command = re.findall(r"rukun (cluster replace \w+)", node.log_text())[-1]
    assert command == f"cluster replace {node.name}"
    before = {line["name"]: line["number"] for line in other(cluster, node).map()["nodes"]}
    node.wipe()
    node.start()
    rukun(cluster, *command.split(), "--wait", "60s", at=other(cluster, node))
    cluster.wait_ready()
    after = {line["name"]: line["number"] for line in other(cluster, node).map()["nodes"]}
    assert after[node.name] > max(before.values())


def other(cluster, node):
    return next(one for one in cluster if one is not node)


def refused(run, node, place):
    """Flips a byte of the stopped node, which then must not start."""
    path, offset, text = place(node)
    run.note(f"flip byte {offset} of {path}")
    flip(path, offset)
    said = len(node.log_text())
    node.start()
    assert faults.wait_ended(node) == 1
    said = node.log_text()[said:]
    assert str(path) in said and text in said, said
    assert "code=corrupt" in said and "the data are damaged" in said, said
    faulty = inspect(node, 1)
    assert re.search(rf"^FAULT {re.escape(str(path))}: {text}", faulty, re.M), faulty


@pytest.mark.parametrize("places", [
    (log_middle, vote, log_tail), (segment_head, batch_head), (opening, log_id)],
    ids=["records", "heads", "starts"])
def test_flipped_byte_in_the_log(fresh, places):
    cluster = fresh().wait_ready()
    with faults.Run(cluster, SEED) as run:
        for number, place in enumerate(places):
            run.sleep(0.7)
            node = cluster.nodes[number]
            run.note(f"kill -9 {node.name}")
            node.kill()
            refused(run, node, place)
            replace(run, node)
        run.finish(faults=len(places))


def test_flipped_byte_in_a_snapshot(fresh):
    cluster = fresh(flags=["--snapshot-bytes", "65536"]).wait_ready()
    with faults.Run(cluster, SEED) as run:
        node = cluster["n3"]
        wait_until(lambda: list(node.data.glob("snap/*.snap")), 20, "a snapshot")
        run.note(f"SIGTERM {node.name}")
        node.stop()
        refused(run, node, snapshot)
        replace(run, node)
        run.finish(faults=1)


def test_a_node_that_runs_reads_its_snapshots_back(fresh):
    """It says so, leads nothing any more and goes on following; then it is replaced."""
    cluster = fresh(flags=["--snapshot-bytes", "65536", "--verify-seconds", "2"]).wait_ready()
    with faults.Run(cluster, SEED) as run:
        node = run.leader()
        wait_until(lambda: list(node.data.glob("snap/*.snap")), 20, "a snapshot")
        wait_until(lambda: node.metric("rukun_snapshots_verified_total") > 0, 10, "read back")
        assert node.metric("rukun_data_damaged") == 0

        run.note(f"flip a byte of each snapshot of {node}")
        spoilt = set()

        def is_damaged():
            """Under load a file may be replaced before it is read back: then the next one."""
            for path in set(node.data.glob("snap/*.snap")) - spoilt:
                with contextlib.suppress(FileNotFoundError):
                    flip(path, path.stat().st_size // 2)
                spoilt.add(path)
            return node.metric("rukun_data_damaged") == 1

        wait_until(is_damaged, 20, "it reads a flipped byte")
        check_damaged(cluster, node)
        run.sleep(1)
        run.note(f"heal: replace {node}")
        rukun(cluster, "cluster", "replace", node.name, at=other(cluster, node))
        wait_until(lambda: node.raft()["state"] == "removed", 10, "it knows that it is out")
        assert node.stop() == 0
        node.wipe()
        node.start()
        cluster.wait_ready()
        wait_until(lambda: other(cluster, node).map()["reconciled"], 30, "all groups agree")
        assert node.metric("rukun_data_damaged") == 0
        run.finish(faults=1)


def check_damaged(cluster, node):
    state = node.raft()["state"]
    assert re.match(r"damaged: \S+\.snap: offset \d+: ", state), state
    assert state.endswith(f"replace it with: rukun cluster replace {node.name}")
    assert node.get("/readyz").status == 503 and node.get("/livez").status == 200
    assert node.get("/health")["state"] == state
    assert f"rukun cluster replace {node.name}" in node.log_text()

    def leads_nothing():
        return "leader" not in [group["role"] for group in node.raft()["groups"]]

    wait_until(leads_nothing, 5, "it hands over what it leads")
    told = {line["name"]: line["damaged"] for line in other(cluster, node).map()["nodes"]}
    assert told == {one.name: one is node for one in cluster}
    assert node.post("/cache/put", {"k": "served", "v": 1}).status == 200


def test_a_leader_reads_a_damaged_log(fresh):
    """For a follower that is behind it reads entries back from its disk: it ends, the others go on,
    and it does not come back with these data."""
    cluster = fresh().wait_ready()
    late = cluster["n3"]
    late.kill()
    cluster.wait_ready()
    keys = [f"{{one group}}{number}" for number in range(400)]
    with cluster["n1"].connect() as rpc:
        for key in keys:
            rpc.call("cache.put", key=key, value="x" * 9000)
    group = max(cluster["n1"].raft()["groups"], key=lambda line: line["bytes"])["id"]
    leader = cluster.leader(group)
    some = [batch for batch in batches(leader) if "entry" in batch.kinds and batch.size > 2000]
    for batch in some[20:60]:
        flip(batch.path, batch.offset + HEAD + batch.size // 2)
    late.start()
    assert faults.wait_ended(leader) == 70
    said = leader.log_text()
    assert re.search(r"group \d+: entries from \d+ on at offset \d+ of \S+\.wal: corrupt", said)
    assert f"rukun cluster replace {leader.name}" in said, said[-2000:]
    cluster.wait_ready()
    for key in keys:
        assert late.post("/cache/get", {"k": key})["value"] == "x" * 9000
    leader.start()
    assert faults.wait_ended(leader) == 1
