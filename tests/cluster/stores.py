"""Where the state of a test's cluster is, and what happens to that meanwhile.

RUKUN_TEST_ENGINE names it for clusters that do not say it themselves: embedded, redis (one
server for each cluster, synced at every write), redis-everysec, redis-tls, redis-sentinel,
redis-cluster (one deployment for all clusters of the run, which a prefix keeps apart).

With RUKUN_TEST_FAULTS=1 a Sentinel group fails over again and again while tests run, and the
slots of a Cluster move."""

import atexit
import os
import pathlib
import random
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "redis"))

import redis_server  # noqa: E402

ENGINE = os.environ.get("RUKUN_TEST_ENGINE", "embedded")
HAS_FAULTS = os.environ.get("RUKUN_TEST_FAULTS") == "1"


class Faults(threading.Thread):
    """Something that happens to a deployment again and again until it is closed."""

    pause = 0.0  # seconds between two

    def __init__(self, deployment):
        super().__init__(name="faults", daemon=True)
        self.deployment = deployment
        self.rng = random.Random(int(os.environ.get("RUKUN_SEED", "1")))
        self.is_over = threading.Event()
        self.counts = {}  # kind -> how many
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.is_over.wait(self.pause):
                self.once()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error  # the run fails by it, see engines.py

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def close(self):
        self.is_over.set()
        self.join()

    def met(self, since):
        """Whether a test that began then may rightly have failed by what happened."""
        raise NotImplementedError

    def missing(self):
        """Kinds that should have happened, and did not."""
        raise NotImplementedError


class Failovers(Faults):
    """Another server becomes the master, by order and by kill -9 in turn. What was answered is
    still there, but calls stand still meanwhile: a test that looks at the clock may notice."""

    pause = 5.0
    GRACE_S = 2.0  # calls that stood still go on at once, connections are made anew

    def __init__(self, deployment):
        self.is_order = True
        self.begun, self.ended = 0.0, 0.0
        super().__init__(deployment)

    def once(self):
        self.begun = time.monotonic()
        old = self.deployment.master()
        if self.is_order:
            self.deployment.order_failover()
        else:
            old.kill()
        self.deployment.wait_failover(old)
        self.ended = time.monotonic()
        if not self.is_order:
            old.start()
        self.deployment.wait_whole()
        self.count("ordered" if self.is_order else "by kill -9")
        self.is_order = not self.is_order

    def met(self, since):
        return self.begun > self.ended or self.ended + self.GRACE_S > since

    def missing(self):
        return [kind for kind in ("ordered", "by kill -9") if kind not in self.counts]


class Moves(Faults):
    """Slots move from master to master, some keys at a time: that of the locks, that of the list
    of topics, ones in use, one by chance. No call may notice."""

    pause = 0.02
    KINDS = ("locks", "topics", "a topic", "an entry", "any")

    def __init__(self, deployment, prefix=None):
        self.prefix = prefix or (lambda: f"t{Store.count}/")
        super().__init__(deployment)

    def once(self):
        for kind in self.KINDS:
            slot = self.choose(kind)
            if slot is None or self.is_over.is_set():
                continue
            source = self.deployment.owner(slot)
            target = self.rng.choice([server for server in self.deployment.masters()
                                      if server is not source])
            self.deployment.begin_move(slot, target)
            # Calls on the topic wait meanwhile, so all of it has to be shorter than a deadline.
            time.sleep(self.rng.uniform(0, 0.2))
            self.deployment.move_keys(slot, source, target, count=self.rng.choice((1, 3, 10)),
                                      slow_s=self.rng.uniform(0, 0.4))
            time.sleep(self.rng.uniform(0, 0.1))
            self.deployment.end_move(slot, target)
            self.count(kind)

    def choose(self, kind):
        """A slot; of topics and entries one of the youngest cluster, if one look finds any."""
        if kind == "any":
            return self.rng.randrange(16384)
        if kind in ("locks", "topics"):
            return self.deployment.slot({"locks": "{lock}", "topics": "{q:topics}"}[kind])
        pattern = self.prefix() + ("q:{*" if kind == "a topic" else "cache:{*")
        server = self.rng.choice(self.deployment.masters())
        keys = server("SCAN", 0, "MATCH", pattern, "COUNT", 5000)[1]
        return self.deployment.slot(self.rng.choice(sorted(keys))) if keys else None

    def met(self, since):
        return False

    def missing(self):
        return [kind for kind in self.KINDS if kind not in self.counts]


class Store:
    """Where a cluster's state is with the redis engine."""

    shared = None
    faults = None
    count = 0

    def __init__(self):
        Store.count += 1
        self.own = None
        self.flags = ["--engine", "redis", "--redis-url"]
        if ENGINE in ("redis", "redis-everysec"):
            self.own = redis_server.Redis(aof=True)
            if ENGINE == "redis-everysec":
                self.own("CONFIG", "SET", "appendfsync", "everysec")
            self.flags.append(self.own.url())
            return
        if Store.shared is None:
            Store.shared = self.make()
            atexit.register(Store.end)
        query = f"prefix=t{Store.count}/"
        if ENGINE == "redis-tls":
            query += f"&ca={self.certificates.ca}"
        if ENGINE == "redis-sentinel":
            # What was answered outlives a failover, also while one replica comes back.
            query += "&wait=1&wait-ms=4000"
        # Another server and another leader within a second may mean lost grants.
        self.flags[:0] = ["--redis-hold-ms", "3000"]
        self.flags.append(Store.shared.url(query=query))

    def make(self):
        if ENGINE == "redis-tls":
            Store.certificates = redis_server.Certificates()
            atexit.register(self.certificates.close)
            return redis_server.Redis(aof=True, tls=self.certificates)
        if ENGINE == "redis-sentinel":
            deployment, faults = redis_server.Sentinels(aof=True), Failovers
        else:
            assert ENGINE == "redis-cluster", f"RUKUN_TEST_ENGINE: there is no {ENGINE}"
            deployment, faults = redis_server.Cluster(node_timeout_ms=15000), Moves
        if HAS_FAULTS:
            Store.faults = faults(deployment)
        return deployment

    def close(self):
        if self.own is not None:
            self.own.close()

    @staticmethod
    def end():
        """The faults are over, and the deployment with them."""
        faults, Store.faults = Store.faults, None
        if faults is not None:
            faults.close()
        shared, Store.shared = Store.shared, None
        if shared is not None:
            shared.close()
        return faults
