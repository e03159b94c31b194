"""Disks that are full, dead, read-only or wrong: nothing acknowledged is lost, and what can not go
on says why."""

import os
import re
import subprocess

import pytest

import faults
import mounts
from rukun_cluster import Cluster, wait_until

SEED = int(os.environ.get("RUKUN_SEED", "1"))
LONG = float(os.environ.get("RUKUN_SECONDS", "120"))


@pytest.fixture
def disks():
    """Makes clusters whose nodes have file systems of their own."""
    made = []

    def make(kind="tmpfs", **options):
        mounts.need_mounts(kind)
        made.append(mounts.DiskCluster(kind=kind, **options))
        return made[-1].wait_ready()

    yield make
    for nodes in made:
        nodes.close()


def test_full_disk(disks):
    """A leader without a byte of space: refuses or ends, and is whole again afterwards."""
    with faults.Run(disks(), SEED) as run:
        run.repeat(6, mounts.full_disk).finish(faults=1)


def test_full_by_use(disks):
    """Messages until every disk is full. What was taken is there, can be consumed, and makes room
    for more."""
    cluster = disks()
    node, taken, refused = cluster["n1"], {}, None
    body = "x" * 400_000
    lock = node.post("/lock/acquire", {"resource": "r", "owner": "o", "lease_ms": 600000})
    for number in range(500):
        answer = node.post("/queue/publish", {"topic": f"t{number % 9}", "data": f"{number}:{body}"})
        if answer.status != 200:
            refused = answer
            break
        taken[f"{number}:{body}"] = number
    assert refused is not None, "96 MB took 200 MB"
    print(f"{len(taken)} messages, then {refused}")
    assert refused.status == 507 and refused["code"] == "full", refused
    assert refused["outcome"] == "not_done" and refused["retryable"] is True
    assert all(node.is_running for node in cluster), "a full disk was no reason to end"
    # What does not grow goes on.
    assert node.post("/lock/release", {"resource": "r", "owner": "o",
                                       "fence": lock["fence"]}).status == 200
    for number in range(9):
        while True:
            got = node.post("/queue/consume", {"topic": f"t{number}"})
            assert got.status == 200, got
            if got["message"] is None:
                break
            del taken[got["message"]]
            done = node.post("/queue/ack", {"id": got["id"]})
            assert done.status == 200, done
    assert not taken, f"lost: {sorted(taken.values())}"
    wait_until(lambda: node.post("/queue/publish", {"topic": "t0", "data": body}).status == 200,
               30, "the acks made room")
    cluster.wait_ready()


def test_reserve_that_can_not_be_kept():
    """Something else is where the reserve belongs: said once, and the node serves; when it can be
    made, that is said once, too."""
    cluster = Cluster(size=1, start=False)
    node = cluster["n1"]
    in_the_way = node.data / "reserve"
    in_the_way.mkdir(parents=True)
    with cluster:
        cluster.start()
        cluster.wait_ready()
        wait_until(lambda: "the disk reserve can not be kept" in node.log_text(), 10, "it is said")
        assert node.post("/cache/put", {"k": "a", "v": 1}).status == 200
        assert node.metric("rukun_disk_full") == 0
        in_the_way.rmdir()
        wait_until(lambda: "the disk reserve can be kept again" in node.log_text(), 10, "and when not")
        assert in_the_way.is_file()
        assert node.log_text().count("the disk reserve can") == 2


def test_full_disk_then_kill(disks):
    """The disks of all nodes are full, the nodes are killed; they come back where they can, at the
    latest when there is space, with all that was acknowledged."""
    cluster = disks()
    for number in range(50):
        assert cluster["n2"].post("/cache/put", {"k": f"k{number}", "v": number}).status == 200
    for node in cluster:
        cluster.disk(node).fill()
        node.kill()
    cluster.start()
    for node in cluster:
        wait_until(lambda one=node: not one.is_running or one.is_ready(), 15, "ends or is ready")
    for node in cluster:
        cluster.disk(node).make_space()
        if not node.is_running:
            assert "space" in node.log_text(), node.log_text()[-1000:]
            node.process = None
            node.start()
    cluster.wait_ready()
    for number in range(50):
        assert cluster["n3"].post("/cache/get", {"k": f"k{number}"})["value"] == number


def test_a_disk_ends_with_its_umount(tmp_path):
    """What runs in a namespace beside keeps no disk of another test alive: a dead one would come
    back dead."""
    mounts.need_mounts("ext4")
    faults.need_network()
    space = f"rkm{os.getpid()}"
    faults.command("ip", "netns", "add", space)
    disk = beside = None
    try:
        disk = mounts.Mount(tmp_path / "disk", "ext4", 32)
        beside = subprocess.Popen([*faults.in_namespace(space), "sh", "-c", "echo; exec cat"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert beside.stdout.readline() == b"\n"
        disk.shut_down()
        disk.unmount()
        disk.mount()
        (disk.path / "file").write_bytes(b"1")
    finally:
        if beside is not None:
            beside.communicate()
        faults.command("ip", "netns", "delete", space)
        if disk is not None:
            disk.remove()


def test_dead_disk_ends_the_node(disks):
    """EIO on the log ends the process at once; the others go on; it comes back with its disk."""
    cluster = disks("ext4")
    with faults.Run(cluster, SEED) as run:
        for group in (0, 1):
            run.sleep(0.5, 1)
            node = run.leader(group)
            run.note(f"disk of {node} dead")
            cluster.disk(node).shut_down()
            code = faults.wait_ended(node)
            assert code != 0, "it ended as if nothing had happened"
            assert re.search(r"cannot write .* at offset \d+ of \S+\.wal: .*code=io",
                             node.log_text()), node.log_text()[-1000:]
            cluster.wait_ready()
            run.sleep(1)
            run.note(f"heal: disk of {node}")
            cluster.disk(node).unmount()
            cluster.disk(node).mount()
            node.start()
            cluster.wait_ready()
        run.finish(faults=2)


def test_power_loss(disks):
    """All machines lose power at one moment: what was answered had been synced."""
    with faults.Run(disks("ext4"), SEED) as run:
        run.repeat(6, mounts.power_loss).finish(faults=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_long(disks, kind):
    fault = {"ext4": mounts.power_loss, "tmpfs": mounts.full_disk}[kind]
    cluster = disks(kind, flags=["--snapshot-bytes", "131072"])
    with faults.Run(cluster, SEED) as run:
        run.repeat(LONG, fault, faults.kill_one).finish(faults=8)


# Refused at start


def ends_with(node, *texts):
    """Starts the node, which must end by itself, and say all of the texts."""
    size = len(node.log_text())
    node.start()
    assert faults.wait_ended(node) != 0
    said = node.log_text()[size:]
    for text in texts:
        assert text in said, f"{text} is not in:\n{said}"
    return said


def write_some(cluster, count=120):
    for number in range(count):
        answer = cluster.nodes[number % 3].post("/cache/put", {"k": f"k{number % 8}",
                                                               "v": f"{number}" * 300})
        assert answer.status == 200, answer


def write_some_elsewhere(cluster, node):
    other = next(one for one in cluster if one is not node)
    assert other.post("/cache/put", {"k": "elsewhere", "v": 1}).status == 200


def test_read_only_disk(disks):
    cluster = disks()
    node = cluster["n1"]
    write_some(cluster)
    node.stop()
    cluster.disk(node).remount("ro")
    ends_with(node, str(node.data), "the folder is not writable")
    write_some_elsewhere(cluster, node)
    cluster.disk(node).remount("rw")
    node.start()
    cluster.wait_ready()
    assert node.post("/cache/get", {"k": "elsewhere"})["value"] == 1
