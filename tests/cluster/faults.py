"""Faults for real nodes: kills, pauses, cut links; and the run around them. Those of disks are in
mounts.py.

A fault is a function (run) that breaks something, waits, and heals it; it notes both. What needs
root says so: `need_network` skips a test where it is not to be had."""

import contextlib
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

import pytest

import history
import load
from rukun_cluster import SLOW, Cluster

HISTORIES = os.environ.get("RUKUN_HISTORIES")  # a folder that keeps every run's history


def command(*words, check=True):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          check=False)
    assert not check or done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr}"
    return done


# The run


class Run:
    """A cluster under load and faults, and the history of it."""

    def __init__(self, cluster, seed=1, keys=3, threads=1):
        self.cluster, self.rng = cluster, random.Random(seed)
        self.recorder = history.Recorder()
        self.load = load.Load(cluster, self.recorder, seed)
        self.threads = threads
        self.topics = [f"topic-{n}" for n in range(3)]
        self.counters = [f"counter-{n}" for n in range(3)]
        self.keys = [load.Keys(f"key-{n}/", keys) for n in range(2)]

    def note(self, what):
        self.recorder.note(what)

    def start(self):
        load.configure_topics(self.cluster, self.topics)
        for n in range(self.threads):
            self.start_locks(n)
            self.start_queues(n)
            self.start_caches(n)
        load.watch_leaders(self.cluster, self.recorder, self.load)
        return self

    def start_locks(self, n):
        start, caller = self.load.start, self.load.caller
        resources = [f"lock-{n}-{k}" for k in range(6)]
        start(load.lock_worker, caller(f"la{n}"), resources)
        start(load.lock_worker, caller(f"lb{n}", way="http"), resources)
        start(load.lock_worker, caller(f"lc{n}", attempts=5), resources)
        start(load.session_worker, caller(f"ls{n}"), resources)

    def start_queues(self, n):
        start, caller = self.load.start, self.load.caller
        start(load.producer_worker, caller(f"pa{n}"), self.topics, 0.03)
        start(load.producer_worker, caller(f"pb{n}", way="http", attempts=5), self.topics, 0.03)
        start(load.consumer_worker, caller(f"qa{n}"), self.topics)
        start(load.consumer_worker, caller(f"qb{n}", attempts=5), self.topics)
        start(load.consumer_worker, caller(f"qc{n}", way="http"), self.topics)

    def start_caches(self, n):
        start, caller = self.load.start, self.load.caller
        for keys in self.keys:
            start(load.register_worker, caller(f"ra{n}{keys.prefix}"), keys, {})
            start(load.register_worker, caller(f"rb{n}{keys.prefix}", attempts=5), keys, {})
            start(load.position_worker, caller(f"rp{n}{keys.prefix}"), keys)
        start(load.register_worker, caller(f"rh{n}", way="http"), self.keys[0], {})
        start(load.counter_worker, caller(f"ca{n}", attempts=5), self.counters)
        start(load.counter_worker, caller(f"cb{n}"), self.counters)

    def sleep(self, least, most=None):
        time.sleep(self.rng.uniform(least, most or least) * SLOW)

    def repeat(self, seconds, *faults):
        """The faults in turn, each followed by some calm, until the time is over; each once at
        least."""
        end = time.monotonic() + seconds * SLOW
        self.sleep(0.5)
        for number, fault in enumerate(itertools.cycle(faults)):
            if number >= len(faults) and time.monotonic() > end:
                break
            fault(self)
            self.sleep(0.3, 1)
        return self

    def leader(self, group=0):
        return self.cluster.leader(group)

    def finish(self, share=0.2, faults=1, calls=100):
        """Heals, drains, checks; gives the figures."""
        self.cluster.wait_ready()
        self.sleep(0.3)
        self.load.stop()
        self.cluster.wait_ready()
        caller = load.Caller(self.cluster, self.recorder, f"drain-{self.load.seed}", attempts=20)
        load.drain(caller, self.topics)
        load.read_counters(caller, self.counters)
        self.same_everywhere()
        lines = self.recorder.lines
        figures = history.summary(lines)
        terms = [group["term"] for group in self.leader().raft()["groups"]]
        print(f"figures: {figures}; terms {terms}")
        assert max(terms) <= 4 * max(figures["faults"], 4), "terms run away"
        wrong = self.check(lines) + history.check_run(lines, share, faults, calls)
        if wrong or HISTORIES:
            folder = pathlib.Path(HISTORIES or tempfile.mkdtemp(prefix="rukun-history-"))
            folder.mkdir(parents=True, exist_ok=True)
            test = os.environ.get("PYTEST_CURRENT_TEST", "run").split("::")[-1].split(" ")[0]
            path = self.recorder.save(folder / f"{test}-{self.load.seed}.jsonl")
            for node in self.cluster:
                shutil.copy(node.log, folder / f"{path.stem}-{node.name}.log")
        assert not wrong, (f"{len(wrong)} violations, history in {path}\n" +
                           "\n".join(text[:1500] for text in wrong[:10]))
        return figures

    def check(self, lines):
        return history.check_all(lines)

    def same_everywhere(self):
        """Every node comes to have applied the same, group by group."""

        def applied():
            states = [node.raft()["groups"] for node in self.cluster]
            return all(len({(g["commit"], g["applied"]) for g in groups}) == 1
                       for groups in zip(*states))

        load.wait_until(applied, 20, "all nodes have applied the same")
        keys = sorted({line["res"] for line in self.recorder.lines if line["type"] == "reg"})
        for first in range(0, len(keys), 500):
            some = {"keys": keys[first:first + 500], "consistency": "local"}
            here, *others = ({entry["key"]: (entry.get("value"), entry.get("version"))
                              for entry in node.post("/cache/get", some)["entries"]}
                             for node in self.cluster)
            for other in others:
                wrong = [key for key in here if here[key] != other[key]]
                assert not wrong, [(key, here[key], other[key]) for key in wrong[:5]]

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is not None:
            self.load.is_over.set()
            print(f"figures: {history.summary(self.recorder.lines)}")
            print(self.cluster.logs())


# Processes


def kill(run, node, least=0.3, most=1.2):
    run.note(f"kill -9 {node.name}")
    node.kill()
    run.sleep(least, most)
    run.note(f"heal: start {node.name}")
    node.start()
    run.cluster.wait_ready()


def kill_one(run):
    kill(run, run.rng.choice(run.cluster.nodes))


def kill_leader(run):
    """Of the lock group or of a data group; it stays away until another leads."""
    group = run.rng.choice((0, 1, 2))
    kill(run, run.leader(group), 1.5, 2.5)


def kill_all(run):
    run.note("kill -9 of all")
    for node in run.rng.sample(run.cluster.nodes, len(run.cluster.nodes)):
        node.kill()
    run.sleep(0, 0.5)
    run.note("heal: start all")
    run.cluster.start()
    run.cluster.wait_ready()


def kill_twice(run):
    """The second time while it comes up: recovery has to stand being cut short."""
    node = run.rng.choice(run.cluster.nodes)
    for _ in range(2):
        run.note(f"kill -9 {node.name}, again as it starts")
        node.kill()
        node.start()
        run.sleep(0, 0.3)
    node.kill()
    run.note(f"heal: start {node.name}")
    node.start()
    run.cluster.wait_ready()


def stop_one(run):
    """A planned restart: it hands over what it leads and ends well."""
    node = run.rng.choice(run.cluster.nodes)
    run.note(f"SIGTERM {node.name}")
    code = node.stop()
    assert code == 0, f"{node.name} ended with {code}\n{node.log_text()[-2000:]}"
    run.sleep(0.2, 0.8)
    run.note(f"heal: start {node.name}")
    node.start()
    run.cluster.wait_ready()


def hand_over(run):
    """Leaderships go where they are wanted, twice in quick succession."""
    for node in run.rng.sample(run.cluster.nodes, 2):
        run.note(f"transfer to {node.name}")
        node.post("/cluster/transfer", {"to": node.name})
        run.sleep(0.2, 0.6)


def pause(run, node, least=1.5, most=3.0):
    run.note(f"SIGSTOP {node.name}")
    node.pause()
    run.sleep(least, most)
    run.note(f"heal: SIGCONT {node.name}")
    node.resume()
    run.cluster.wait_ready()


def pause_leader(run):
    pause(run, run.leader(run.rng.choice((0, 0, 1, 2))))


def pause_one(run):
    pause(run, run.rng.choice(run.cluster.nodes))


def pause_majority(run):
    """Nobody can decide; what was waiting is answered or refused when they run again."""
    nodes = run.rng.sample(run.cluster.nodes, 2)
    run.note(f"SIGSTOP {nodes}")
    for node in nodes:
        node.pause()
    run.sleep(1.5, 2)
    run.note(f"heal: SIGCONT {nodes}")
    for node in nodes:
        node.resume()
    run.cluster.wait_ready()


def wait_ended(node, timeout=15.0):
    """Until the process ended by itself; its exit code. The fixture then takes it as stopped."""
    code = load.wait_until(lambda: (node.process.poll(),) if node.process.poll() is not None
                           else None, timeout, f"{node.name} ends")[0]
    node.process = None
    return code


# Networks


def in_namespace(name):
    """What to put before a command. `ip netns exec` would also give it copies of all mounts:
    the disk of another test would then live on behind its umount."""
    return ["nsenter", f"--net=/run/netns/{name}"]


def need_network():
    """Skips unless namespaces, veth pairs, bridges and iptables can be used."""
    if os.geteuid() != 0:
        pytest.skip("link cuts need root for network namespaces")
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            pytest.skip(f"link cuts need the program {tool} (Debian package "
                        f"{'iproute2' if tool == 'ip' else tool})")
    name = f"rkt{os.getpid()}"
    try:
        for words in (["ip", "netns", "add", name],
                      ["ip", "-n", name, "link", "add", "br0", "type", "bridge"],
                      ["ip", "-n", name, "link", "add", "v0", "type", "veth", "peer", "name",
                       "v1"],
                      [*in_namespace(name), "iptables", "-w", "-S"]):
            done = command(*words, check=False)
            if done.returncode != 0:
                pytest.skip(f"link cuts are not permitted here: {' '.join(words)}: "
                            f"{done.stderr.strip()}")
    finally:
        command("ip", "netns", "delete", name, check=False)


class NetCluster(Cluster):
    """Each node in a network namespace of its own, on one bridge (in a namespace, too, so that
    the machine's own firewall stays out of it); the test's clients come in over one more link."""

    counter = itertools.count(1)

    def __init__(self, size=3, flags=(), start=True, **options):
        super().__init__(size, [*flags, "--insecure", "on"], start=False, **options)
        self.stem = f"rk{os.getpid() % 100000:x}{next(self.counter):x}"
        self.net = f"10.{random.randrange(64, 250)}.{random.randrange(1, 250)}"
        self.namespaces = []
        self.met = 0
        for number, node in enumerate(self.nodes):
            address = self.address(number)
            node.http, node.rpc, node.peer = (f"{address}:{port}" for port in (7400, 7500, 7600))
        self.peers = ",".join(f"{node.name}={node.peer}" for node in self.nodes)
        try:
            self.wire()
            if start:
                self.start()
        except BaseException:
            self.unwire()
            raise

    def address(self, number):
        return f"{self.net}.{number + 1}"

    def space(self, node):
        return f"{self.stem}-{node.name}"

    def add_namespace(self, name):
        command("ip", "netns", "add", name)
        self.namespaces.append(name)
        command("ip", "-n", name, "link", "set", "lo", "up")

    def add_link(self, hub, port, space, device, address):
        """A cable from a port of the hub's bridge to a device; space None: of this machine."""
        where = ["-n", space] if space else []
        command("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name",
                f"p{self.stem}")
        command("ip", "-n", hub, "link", "set", f"p{self.stem}", "netns", space or "1")
        command("ip", *where, "link", "set", f"p{self.stem}", "name", device)
        command("ip", *where, "address", "add", f"{address}/24", "dev", device)
        command("ip", *where, "link", "set", device, "up")
        command("ip", "-n", hub, "link", "set", port, "master", "br0", "up")

    def wire(self):
        hub = f"{self.stem}-hub"
        self.add_namespace(hub)
        command("ip", "-n", hub, "link", "add", "br0", "type", "bridge")
        command("ip", "-n", hub, "link", "set", "br0", "up")
        for number, node in enumerate(self.nodes):
            self.add_namespace(self.space(node))
            self.add_link(hub, f"port{number}", self.space(node), "eth0", self.address(number))
            node.prefix = in_namespace(self.space(node))
        self.add_link(hub, "clients", None, f"{self.stem}c", f"{self.net}.254")

    def unwire(self):
        for name in self.namespaces:
            command("ip", "netns", "delete", name, check=False)
        self.namespaces = []

    def iptables(self, node, *words):
        """Runs it where the node is; what it printed."""
        return command(*in_namespace(self.space(node)), "iptables", "-w", *words).stdout

    def drop(self, source, target, how="DROP"):
        """What source sends does not arrive at target. REJECT: it is answered with a reset."""
        reset = ["-p", "tcp"], ["--reject-with", "tcp-reset"]
        match, answer = reset if how == "REJECT" else ([], [])
        self.iptables(target, "-A", "INPUT", "-s", source.peer.split(":")[0], *match, "-j", how,
                      *answer)

    def cut(self, one, other, how="DROP"):
        self.drop(one, other, how)
        self.drop(other, one, how)

    def flush(self):
        """Links as they should be; what met the cuts is still counted."""
        self.met += self.meeting()
        for node in self.nodes:
            self.iptables(node, "-F")

    def heal(self):
        self.flush()
        self.met = 0

    def meeting(self):
        total = 0
        for node in self.nodes:
            rows = [line.split() for line in self.iptables(node, "-nvxL").splitlines()]
            total += sum(int(row[0]) for row in rows if len(row) > 2 and
                         row[2] in ("DROP", "REJECT"))
        return total

    def dropped(self):
        """Packets that met a cut since the last heal, so that a test can tell that it was one."""
        return self.met + self.meeting()

    def close(self):
        try:
            super().close()
        finally:
            self.unwire()


@contextlib.contextmanager
def cut_off(run, what, seconds=2.0):
    """Around the making of a cut: notes it, waits, proves that packets met it, heals."""
    run.note(f"cut {what}")
    yield
    run.sleep(seconds, seconds + 1)
    met = run.cluster.dropped()
    assert met > 0, f"nothing met the cut {what}"
    run.note(f"heal: {met} packets dropped")
    run.cluster.heal()
    run.cluster.wait_ready()


def cut_halves(run):
    """A minority and a majority by chance."""
    nodes = run.rng.sample(run.cluster.nodes, len(run.cluster.nodes))
    few, many = nodes[:len(nodes) // 2], nodes[len(nodes) // 2:]
    with cut_off(run, f"{few} from {many}"):
        for one, other in itertools.product(few, many):
            run.cluster.cut(one, other)


def cut_leader(run):
    leader = run.leader(run.rng.choice((0, 0, 1, 2)))
    with cut_off(run, f"the leader {leader}"):
        for other in run.cluster.nodes:
            if other is not leader:
                run.cluster.cut(leader, other)


def cut_hearing(run):
    """The leader's packets arrive, those to it do not: it must not go on as if all were well."""
    leader = run.leader(0)
    with cut_off(run, f"what {leader} hears"):
        for other in run.cluster.nodes:
            if other is not leader:
                run.cluster.drop(other, leader)


def cut_speaking(run):
    """The leader hears all, nobody hears it."""
    leader = run.leader(0)
    with cut_off(run, f"what {leader} says"):
        for other in run.cluster.nodes:
            if other is not leader:
                run.cluster.drop(leader, other)


def cut_bridge(run):
    """Two sides that both see the node in the middle, and not each other."""
    nodes = run.rng.sample(run.cluster.nodes, len(run.cluster.nodes))
    middle, rest = nodes[0], nodes[1:]
    sides = rest[::2], rest[1::2]
    with cut_off(run, f"{sides[0]} from {sides[1]}, {middle} sees both"):
        for one, other in itertools.product(*sides):
            run.cluster.cut(one, other)


def flap_link(run):
    """Two nodes hear each other, and do not, and do, in silence or with resets."""
    one, other = run.rng.sample(run.cluster.nodes, 2)
    how = run.rng.choice(("DROP", "REJECT"))
    run.note(f"cut {one} from {other} again and again, {how}")
    for _ in range(4):
        run.cluster.cut(one, other, how)
        run.sleep(0.1, 1.5)
        run.cluster.flush()
        run.sleep(0.1, 0.5)
    run.note(f"heal: {run.cluster.dropped()} packets met the cuts")
    run.cluster.heal()
    run.cluster.wait_ready()
