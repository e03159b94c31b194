"""Nodes with disks of their own that fill up, die and lose power. Needs root for the mounts:
`need_mounts` skips a test where they are not to be had."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import struct
import tempfile
import time

import pytest

from faults import command
from rukun_cluster import Cluster



def need_mounts(kind="tmpfs"):
    """Skips unless file systems can be mounted."""
    if os.geteuid() != 0:
        pytest.skip(f"a {kind} mount needs root")
    if kind == "ext4" and shutil.which("mkfs.ext4") is None:
        pytest.skip("a disk that dies needs mkfs.ext4 (Debian package e2fsprogs)")
    with tempfile.TemporaryDirectory() as folder:
        try:
            Mount(pathlib.Path(folder) / "disk", kind, 16 if kind == "tmpfs" else 32).remove()
        except AssertionError as error:
            pytest.skip(f"mounts are not permitted here: {error}")


class Mount:
    """A small file system of its own; ext4 ones live in a file beside and can be shut down."""

    SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
    WITHOUT_LOG = 2  # what was not synced is lost, as with the power

    def __init__(self, path, kind, megabytes):
        self.path, self.kind, self.size = pathlib.Path(path), kind, megabytes
        self.path.mkdir(parents=True, exist_ok=True)
        self.image = self.path.with_suffix(".img")
        if kind == "ext4":
            with open(self.image, "wb") as file:
                file.truncate(megabytes << 20)
            command("mkfs.ext4", "-q", self.image)
        self.mount()

    def mount(self):
        if self.kind == "ext4":
            command("mount", "-o", "loop", self.image, self.path)
        else:
            command("mount", "-t", "tmpfs", "-o", f"size={self.size}m", "tmpfs", self.path)

    def unmount(self):
        for _ in range(50):
            done = command("umount", self.path, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"umount: {done.stderr}")

    def remount(self, how):
        """how: ro or rw."""
        command("mount", "-o", f"remount,{how}", self.path)

    def shut_down(self):
        """From now on the disk answers nothing but EIO."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, self.SHUTDOWN, struct.pack("I", self.WITHOUT_LOG))
        finally:
            os.close(folder)

    def free(self):
        space = os.statvfs(self.path)
        return space.f_bavail * space.f_frsize

    def fill(self, keep=0):
        """Takes all space but `keep` bytes. Unbuffered: a node that takes the last of it first is
        no error of the file's close."""
        with open(self.path / "filler", "ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while (left := self.free() - keep) > 0:
                    file.write(b"\xff" * min(left, 1 << 20))

    def make_space(self):
        (self.path / "filler").unlink()

    def remove(self):
        command("umount", "-l", self.path, check=False)
        self.image.unlink(missing_ok=True)


class DiskCluster(Cluster):
    """Each node's data on a file system of its own."""

    def __init__(self, size=3, kind="tmpfs", megabytes=96, flags=(), **options):
        super().__init__(size, ["--reserve-bytes", str(16 << 20), *flags], start=False, **options)
        self.mounts = {}
        try:
            for node in self.nodes:
                self.mounts[node.name] = Mount(self.folder / f"disk-{node.name}", kind, megabytes)
                node.data = self.mounts[node.name].path / "data"
            self.start()
        except BaseException:
            self.close()
            raise

    def disk(self, node):
        return self.mounts[node.name]

    def close(self):
        try:
            for node in self.nodes:
                if node.is_running:
                    node.kill()
        finally:
            for mount in self.mounts.values():
                mount.remove()
            super().close()


def power_loss(run):
    """All disks die at one moment without having written what was not synced; then all come back."""
    cluster = run.cluster
    run.note("power lost")
    for node in cluster.nodes:
        cluster.disk(node).shut_down()
    for node in cluster.nodes:
        node.kill()
    run.sleep(0.2, 0.5)
    for node in cluster.nodes:
        cluster.disk(node).unmount()
        cluster.disk(node).mount()
    run.note("heal: start all")
    cluster.start()
    cluster.wait_ready()


def full_disk(run):
    """One node's disk, mostly a leader's, has no byte left; then space is made."""
    node = run.leader(run.rng.choice((0, 1, 2)))
    disk = run.cluster.disk(node)
    run.note(f"disk of {node} full")
    disk.fill()
    run.sleep(2.5, 3.5)
    run.note(f"heal: space on the disk of {node}, {disk.free()} bytes were free")
    disk.make_space()
    if not node.is_running:
        node.process = None
        node.start()
    run.cluster.wait_ready()
