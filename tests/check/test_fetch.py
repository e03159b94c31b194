"""tests/script/fetch, against repositories and archives made here."""

import hashlib
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FETCH = ROOT / "tests/script/fetch"
FILES = {"LICENSE": "free\n", "testdata/a.txt": "one\n", "quorum/testdata/b.txt": "two\n"}
AS_SOMEBODY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
               "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
               "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


class Source:
    """A place to fetch from, and the list of what should be there."""

    def __init__(self, folder, files):
        self.folder = folder
        self.to = folder / "got"
        self.list = folder / "list"
        self.tree = folder / "tree"
        self.path = os.environ["PATH"]
        for name, text in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def write_list(self, commit, files):
        lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {name}"
                 for name, text in files.items()]
        self.list.write_text("\n".join(["# The list.", f"# commit {commit}", *lines]) + "\n")

    def fetch(self, status=0):
        done = subprocess.run(
            [FETCH, "--from", self.url, "--to", self.to, "--list", self.list], text=True,
            capture_output=True, timeout=60,
            env=os.environ | AS_SOMEBODY | {"PATH": self.path})
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def found(self):
        return {str(path.relative_to(self.to)): path.read_text()
                for path in self.to.rglob("*") if path.is_file()}


def by_git(folder, files):
    source = Source(folder, files | {"raft.go": "not asked for\n"})
    git = ["git", "-C", source.tree]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(git + arguments, check=True, env=os.environ | AS_SOMEBODY)
    head = subprocess.run(git + ["rev-parse", "HEAD"], check=True, capture_output=True,
                          text=True).stdout.strip()
    source.url = source.tree.as_uri()
    source.write_list(head, FILES)
    return source


def by_curl(folder, files):
    source = Source(folder, files)
    commit = "ab" * 20
    (folder / "archive").mkdir()
    subprocess.run(["tar", "-czf", folder / f"archive/{commit}.tar.gz",
                    "--transform", "s,^tree,raft-abab,", "-C", folder, "tree"], check=True)
    tools = folder / "tools"  # all there is but git
    tools.mkdir()
    for name in ("bash", "awk", "curl", "dirname", "grep", "gzip", "mkdir", "mktemp", "mv",
                 "readlink", "rm", "sed", "sha256sum", "tar", "env"):
        (tools / name).symlink_to(shutil.which(name))
    source.path = str(tools)
    source.url = folder.as_uri()
    source.write_list(commit, FILES)
    return source


def make(way, folder, files=FILES):
    if way is by_git and shutil.which("git") is None:
        pytest.skip("there is no git")
    return way(folder, files)


@pytest.mark.parametrize("way", [by_git, by_curl])
def test_the_listed_files_are_brought(way, tmp_path):
    source = make(way, tmp_path)
    said = source.fetch()
    assert source.found() == FILES
    assert f"RUKUN_CONFORMANCE_DIR={source.to}" in said
    (source.to / "testdata/old.txt").write_text("of another commit\n")
    source.fetch()
    assert source.found() == FILES


@pytest.mark.parametrize("way", [by_git, by_curl])
@pytest.mark.parametrize("files, complaint", [
    (FILES | {"testdata/a.txt": "another\n"}, "nothing was kept"),
    ({name: FILES[name] for name in ("LICENSE", "testdata/a.txt")}, None),
])
def test_other_files_are_refused(way, files, complaint, tmp_path):
    source = make(way, tmp_path, files)
    source.to.mkdir()
    (source.to / "kept.txt").write_text("as it was\n")
    said = source.fetch(status=1)
    assert complaint is None or complaint in said
    assert source.found() == {"kept.txt": "as it was\n"}


def test_a_missing_commit_is_told(tmp_path):
    source = make(by_git, tmp_path)
    source.write_list("cd" * 20, FILES)
    assert "cannot get commit cdcd" in source.fetch(status=1)
    assert not source.to.exists()


def test_the_real_list_is_whole():
    lines = [line.split() for line in (ROOT / "tests/script/etcd-raft.sha256")
             .read_text().splitlines() if not line.startswith("#")]
    assert all(len(digest) == 64 for digest, _ in lines)
    names = [name for _, name in lines]
    assert names == sorted(names) and len(names) == 42
