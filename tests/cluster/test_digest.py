"""The main job, docs/examples/digest, on every file under /usr/share/doc, while nodes and a
worker are killed with -9 and started again."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest
from rukun_cluster import BUILD, ROOT, SLOW, wait_until

JOB = ROOT / "docs/examples/digest"
FOLDER = os.environ.get("RUKUN_DIGEST_FOLDER", "/usr/share/doc")
WORKERS_A_NODE = 2


class Job:
    """The processes of one run."""

    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.folder = folder
        self.outputs = folder / "outputs"
        self.outputs.mkdir()
        self.everywhere = ",".join(node.rpc for node in cluster)
        self.workers = {}
        self.environment = dict(os.environ, PYTHONPATH=str(BUILD / "bindings/python"),
                                PYTHONUNBUFFERED="1")

    def command(self, script, *arguments):
        return [sys.executable, "-B", JOB / script, "--topic", "digest", *arguments]

    def run(self, script, *arguments, seconds=120):
        done = subprocess.run(
            self.command(script, "--endpoints", self.everywhere, *arguments), text=True,
            env=self.environment, capture_output=True, timeout=seconds * SLOW)
        return done.returncode, done.stdout + done.stderr

    def produce(self):
        status, text = self.run("producer.py", "--folder", FOLDER)
        assert status == 0, text
        return int(re.search(r"(\d+) paths", text).group(1))

    def start_worker(self, name, node):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.workers[name] = subprocess.Popen(
                self.command("worker.py", "--endpoints", node.rpc, "--outputs", self.outputs,
                             "--name", name, "--idle", "2"),
                env=self.environment, stdout=log, stderr=log)

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}"
                         for path in sorted(self.folder.glob("*.log")))

    def count(self):
        return sum(len(names) for _, _, names in os.walk(self.outputs))

    def wait_count(self, count, seconds=120):
        def check():
            ended = [name for name, worker in self.workers.items() if worker.poll()]
            assert not ended, f"ended: {ended}\n{self.logs()}"
            return self.count() >= count
        try:
            wait_until(check, seconds, f"{count} outputs")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.count()}\n{self.logs()}\n"
                                 f"{self.cluster.logs()}") from None

    def finish(self, seconds=180):
        end = time.monotonic() + seconds * SLOW
        for name, worker in self.workers.items():
            try:
                status = worker.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{name} does not end: {self.count()} outputs\n"
                                     f"{self.logs()}\n{self.cluster.logs()}") from None
            assert status == 0, f"{name}: {status}\n{self.logs()}"

    def close(self):
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.kill()
                worker.wait()


@pytest.fixture
def job(fresh, tmp_path):
    if not any(pathlib.Path(FOLDER).rglob("*")):
        pytest.skip(f"{FOLDER} is empty here")
    made = Job(fresh().wait_ready(), tmp_path)
    yield made
    made.close()


def test_digests_while_nodes_and_a_worker_die(job):
    count = job.produce()
    assert count > 20
    # A producer that died and starts again publishes nothing twice: the check counts.
    assert job.produce() == count
    for number in range(WORKERS_A_NODE * 3):
        job.start_worker(f"worker-{number + 1}", job.cluster.nodes[number % 3])

    # The leader of group 0, which holds sessions and locks.
    job.wait_count(count // 10)
    leader = job.cluster.leader(0)
    leader.kill()
    at_first_kill = job.count()
    assert at_first_kill < count, "all was done before the first kill"
    # The others go on without it: also the workers that knew only its address.
    job.wait_count(min(count, at_first_kill + count // 10))
    leader.start()
    job.cluster.wait_ready()

    # One worker, in the midst of something.
    job.workers["worker-2"].kill()
    job.workers["worker-2"].wait()
    job.start_worker("worker-2", job.cluster.nodes[1])

    # Another node.
    job.wait_count(min(count, count // 2))
    other = next(node for node in job.cluster if node is not leader)
    other.kill()
    assert job.count() < count, "all was done before the second kill"
    job.wait_count(min(count, job.count() + count // 10))
    other.start()
    job.cluster.wait_ready()

    job.finish()
    status, text = job.run("check.py", "--folder", FOLDER, "--outputs", job.outputs)
    print(text)
    assert status == 0, f"{text}\n{job.logs()}"
    summary = re.search(r"check: (\d+) files, (\d+) digests by (\d+) workers, "
                        r"(\d+) duplicates, 0 problems", text)
    assert summary, text
    files, digests, workers, duplicates = map(int, summary.groups())
    assert files == count and digests == count + duplicates
    assert workers == WORKERS_A_NODE * 3, "some worker did nothing"
    # Only what was in someone's hands as a node or a worker died can be done twice.
    assert duplicates <= 50


def test_check_finds_what_is_wrong(job):
    """The check itself: a missing output, a wrong digest, a fence that falls."""
    some = ["--folder", FOLDER, "--count", "5"]
    status, text = job.run("producer.py", *some)
    assert status == 0, text
    job.start_worker("worker-1", job.cluster.nodes[0])
    job.finish()
    assert job.run("check.py", *some, "--outputs", job.outputs)[0] == 0
    paths = sorted(path for path in job.outputs.rglob("*") if path.is_file())
    assert len(paths) == 5
    text = paths[0].read_text()
    paths[0].write_text(text + text)
    paths[1].unlink()
    paths[2].write_text(paths[2].read_text()[:-2] + "x\n")
    status, text = job.run("check.py", *some, "--outputs", job.outputs)
    assert status == 1
    assert "fences do not rise" in text and "missing" in text and "wrong" in text
    assert "1 duplicates, 3 problems" in text
