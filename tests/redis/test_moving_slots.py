"""Topics and caches while their slot moves from one master of a Cluster to another."""
import pathlib
import sys
import threading
import time

import pytest
from redis_server import Cluster, wait_until
from script_bench import LUA, Connection, RedisError, Topics

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from rukun_cluster import Cluster as Nodes  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        yield made


class Asking:
    """A connection that says ASKING before each command, as one does who was sent there."""

    def __init__(self, connection):
        self.connection = connection

    def __call__(self, *args):
        assert self.connection("ASKING") == b"OK"
        return self.connection(*args)


class Move:
    """A slot on its way: from where to where, and what is in it."""

    def __init__(self, cluster, key):
        self.cluster = cluster
        self.slot = cluster.slot(key)
        self.source = cluster.owner(self.slot)
        masters = cluster.masters()
        self.target = masters[(masters.index(self.source) + 1) % len(masters)]
        self.old, self.new = Connection(self.source.port), Connection(self.target.port)

    def begin(self):
        self.cluster.begin_move(self.slot, self.target)
        self.is_open = True

    def keys(self, at):
        return at("CLUSTER", "GETKEYSINSLOT", self.slot, 10000)

    def take(self, *keys):
        self.old("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def end(self):
        if self.is_open:
            self.cluster.move_keys(self.slot, self.source, self.target)
            self.cluster.end_move(self.slot, self.target)
        self.is_open = False

    def content(self):
        return ({key: self.old("DUMP", key) for key in self.keys(self.old)},
                {key: Asking(self.new)("DUMP", key) for key in self.keys(self.new)})

    def close(self):
        self.old.close()
        self.new.close()


@pytest.fixture
def move(cluster):
    made = []

    def make(key):
        made.append(Move(cluster, key))
        return made[-1]

    yield make
    for one in made:
        one.close()


CALLS = {
    "publish": lambda topics, ids: topics.publish("m", "more"),
    "consume": lambda topics, ids: topics.consume("m", client="c", seq=6, first=6),
    "consume and wait": lambda topics, ids: topics.consume("m", wait=1000),
    "ack": lambda topics, ids: topics.settle("ack", "m", ids[0], client="c", seq=6, first=6),
    "nack": lambda topics, ids: topics.settle("nack", "m", ids[0], delay=0),
    "nack dead": lambda topics, ids: topics.settle("nack", "m", ids[0], dead=1),
    "extend": lambda topics, ids: topics.settle("extend", "m", ids[0], visibility=9),
    "return": lambda topics, ids: topics.settle("return", "m", ids[0]),
    "delete": lambda topics, ids: topics.settle("delete", "m", ids[0]),
    "configure": lambda topics, ids: topics.configure("m", retry_ms=5),
    "pause": lambda topics, ids: topics.admin("pause", "m", number=1),
    "resume": lambda topics, ids: topics.admin("resume", "m"),
    "purge": lambda topics, ids: topics.admin("purge", "m"),
    "redrive": lambda topics, ids: topics.admin("redrive", "m", keys=["q:{m}"]),
    "number": lambda topics, ids: topics.admin("number", "m", number=1),
    "sweep": lambda topics, ids: topics.admin("sweep", "m"),
    "info": lambda topics, ids: topics.info("m"),
    "peek": lambda topics, ids: topics.peek("m"),
    "import of a topic": lambda topics, ids: topics.run("topic", "m", "m", 1, 77),
    "import of a message": lambda topics, ids: topics.run(
        "message", "m", "x", "body", 9, "R", 0, 0, 0, 0, 0, 0, "-", 336, 1, "", 0, "", 0),
    "import of a window": lambda topics, ids: topics.run("window", "m", ":id:p", "x", 1 << 50),
    "import of a fence": lambda topics, ids: topics.run("fence", "m", ":fence", 7, 60000),
}


def test_scripts_of_topics_wait_until_their_slot_is_moved(move):
    """Redis runs none of them in between, so that none fails after its first write: whichever
    keys are where, and whatever is due."""
    m = move("{m}")
    topics = Topics(m.old, has_clock=False)
    topics.publish("m", *"abcdefghi", client="c", seq=1, first=1)
    dead, *ids = [(line[0], line[1]) for line in topics.consume("m", 3, 60000)]
    topics.settle("nack", "m", dead, dead=1)
    topics.consume("m", 1, 1)
    wait_until(lambda: m.old("ZCOUNT", "q:{m}:due", 0, time.time() * 1000 - 1) == 1, what="one is due")
    assert m.old("EXISTS", "q:{m}", "q:inflight:{m}", "q:{m}:none") == 2
    m.begin()

    def refused(connection, answer):
        topics.redis = connection
        before = m.content()
        for name, call in CALLS.items():
            with pytest.raises(RedisError, match=f"^{answer}"):
                call(topics, ids)
            assert m.content() == before, name

    # Most keys exist, then those that scripts name but others do not, then none of them.
    for keys in ([], ["q:{m}:state", "q:{m}:info"], ["q:{m}"], ["q:inflight:{m}"]):
        if keys:
            m.take(*keys)
        refused(m.old, "ASK" if "q:inflight:{m}" in keys else "TRYAGAIN")
        refused(Asking(m.new), "TRYAGAIN")
    m.end()
    topics.redis = m.new
    assert topics.settle("ack", "m", *ids) == [0, 0]
    assert topics.info("m")["dead"] == 1
    assert len(topics.consume("m", 100, 60000)) == 6
    info = topics.info("m")
    assert (info["count"], info["in_flight"], info["ready"]) == (6, 6, 0)


def test_scripts_of_caches_wait_or_are_whole(move):
    m = move("{k}")
    names = ["cache:{k}", "cache:{k}:fill", "cache:{k}:fences", "cache:{k}:request:c/1"]
    put = names, ["ch", "{", "new", "json", 0, 0, "", "", "", 9, "", 1000]
    calls = {
        "put": put,
        "add": ([names[0], names[1], names[3]], ["ch", "{", 1, 1, 0, 1000, "", ""]),
        "delete": ([names[0], names[1], names[3]], ["ch", "{", "", 1000]),
        "import": ([names[0], names[2], "cache:{k}:none"], ["entry", "v", "json", 5, 0, 0]),
    }

    def run(connection, name):
        keys, args = calls[name]
        return connection("EVAL", (LUA / f"cache_{name}.lua").read_text(), len(keys), *keys, *args)

    assert run(m.old, "put")[0] == b"ok"
    m.old("DEL", names[3])
    m.old("HSET", names[1], "base", 1)
    m.begin()
    for keys in ([], names[1:2], names[2:3], names[:1]):
        if keys:
            m.take(*keys)
        before = m.content()
        for name in calls:
            is_gone = not any(key.encode() in before[0] for key in calls[name][0])
            with pytest.raises(RedisError, match="^ASK" if is_gone else "^TRYAGAIN"):
                run(m.old, name)
            with pytest.raises(RedisError, match="^TRYAGAIN"):
                run(Asking(m.new), name)
            assert m.content() == before, name
    m.end()
    assert run(m.new, "put")[0] == b"ok" and run(m.new, "delete")[2] == 1


class Load:
    """Publishers and consumers of topics at a node, who give up nothing."""

    PATIENT = {"Rukun-Deadline-Ms": "60000"}

    def __init__(self, node, topics):
        self.node, self.topics = node, topics
        self.sent, self.done, self.dead, self.errors = [], [], [], []
        self.is_enough, self.is_over = threading.Event(), threading.Event()
        self.threads = []

    def ask(self, path, **fields):
        answer = self.node.post(path, fields, headers=self.PATIENT, timeout=70)
        if answer.status != 200:
            self.errors.append((path, fields, answer.data))
        return answer

    def publish(self, topic, name, **fields):
        assert self.ask("/queue/publish", topic=topic, data=name, **fields).status == 200
        self.sent.append(name)

    def take(self, topic, **fields):
        return self.ask("/queue/consume", topic=topic, max=5, **fields)["messages"]

    def settle(self, message, how="ack", **fields):
        answer = self.ask(f"/queue/{how}", id=message["id"], **fields)
        if answer.status == 200 and how == "ack":
            self.done.append(message["message"])
        if answer.status == 200 and fields.get("dead"):
            self.dead.append(message["message"])

    def _publisher(self, topic):
        for i in range(1000):
            if self.is_enough.is_set():
                return
            self.publish(topic, f"{topic} {i}", priority=i % 3,
                         **({"group": f"g{i % 7}"} if i % 2 else {}))

    def _consumer(self, topic):
        while not self.is_over.is_set():
            for message in self.take(topic, wait_ms=500):
                self.settle(message)

    def start(self, *held):
        def settler():
            ways = {"how": "ack"}, {"how": "nack", "delay_ms": 5}, {"how": "nack", "dead": True}
            for i, message in enumerate(held):
                self.settle(message, **ways[i % 3])
        work = [(self._publisher, topic) for topic in self.topics] + [
            (self._consumer, topic) for topic in self.topics * 2]
        self.threads = [threading.Thread(target=call, args=args, daemon=True)
                        for call, *args in [*work, (settler,)]]
        self.publishers = self.threads[:len(self.topics)] + self.threads[-1:]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.is_enough.set()
        for thread in self.publishers:
            thread.join(70)
        wait_until(lambda: self.errors or len(self.done) + len(self.dead) >= len(self.sent), 30,
                   "all is taken")
        self.is_over.set()
        for thread in self.threads:
            thread.join(70)
            assert not thread.is_alive()


@pytest.mark.sanitize
def test_nothing_is_lost_while_a_slot_moves(cluster, move, tmp_path):
    """Topics with messages that are ready, held, late and to come, in a slot that stands half
    moved for a while and then goes round: calls wait for its end, and every message is handed
    out and settled."""
    topics = ["one{mv}", "two{mv}", "mv"]
    m = move("{mv}")
    flags = ["--engine", "redis", "--redis-url", cluster.url()]
    with Nodes(1, flags=flags, folder=tmp_path / "nodes") as nodes:
        nodes.wait_ready()
        node = nodes["n1"]
        load = Load(node, topics)
        for topic in topics:
            for i in range(12):
                load.publish(topic, f"{topic} early {i}", delay_ms=300 if i == 11 else 0,
                             ttl_ms=3600000 if i % 2 else 0)
        held = [message for topic in topics for message in load.take(topic)]
        for topic in topics:  # their time is over soon
            load.take(topic, visibility_ms=200)

        def repeated(more):
            least = node.metric("rukun_redis_repeated_total") + more
            wait_until(lambda: load.errors or
                       node.metric("rukun_redis_repeated_total") > least,
                       what="calls are tried again")
            assert not load.errors, load.errors[:3]

        m.begin()
        load.start(*held)
        try:
            repeated(30)
            m.take(*sorted(m.keys(m.old))[::2])
            repeated(30)
            refused = node.post("/queue/publish", {"topic": "mv", "data": "never"},
                                headers={"Rukun-Deadline-Ms": "300"})
            assert (refused.status, refused["outcome"]) == (503, "not_done"), refused
            assert "TRYAGAIN" in refused["detail"]
            m.end()
            for target in 2 * [one for one in cluster.masters() if one is not m.target]:
                cluster.move_slot(m.slot, target)
        finally:
            m.end()
            load.end()
        assert not load.errors, load.errors[:3]
        assert sorted(load.done + load.dead) == sorted(load.sent)
        owner = cluster.owner(m.slot)
        for topic in topics:
            info = node.post("/queue/info", {"topic": topic}).data
            assert (info["ready"], info["in_flight"], info["delayed"]) == (0, 0, 0), info
            base = "q:{mv}" + ("" if topic == "mv" else topic.replace("{", "%7B").replace("}", "%7D"))
            assert owner("HGET", f"{base}:info", "poppable") == "0"
            assert owner("EXISTS", base, f"{base}:state", f"{base}:msg", f"{base}:due") == 0
        assert sum(node.post("/queue/info", {"topic": topic})["dead"]
                   for topic in topics) == len(load.dead)


def test_invalidate_finds_what_moves(cluster, tmp_path):
    """Entries that go to a master that was searched before are removed, too."""
    keys = [f"moves {i}" for i in range(6)]
    slots = [cluster.slot(f"{{{key}}}") for key in keys]
    is_over = threading.Event()
    moved = []

    def mover():
        while not is_over.is_set():
            for slot in slots:
                masters = cluster.masters()
                at = masters.index(cluster.owner(slot))
                cluster.move_slot(slot, masters[(at + len(moved) % 2 + 1) % len(masters)])
                moved.append(slot)

    flags = ["--engine", "redis", "--redis-url", cluster.url("prefix=moves:")]
    with Nodes(1, flags=flags, folder=tmp_path / "nodes") as nodes:
        node = nodes.wait_ready()["n1"]
        thread = threading.Thread(target=mover, daemon=True)
        thread.start()
        try:
            rounds = 0
            while rounds < 60 or len(moved) < 60:
                for key in keys:
                    assert node.post("/cache/put", {"key": key, "value": 1}).status == 200
                answer = node.post("/cache/invalidate", {"prefix": "moves "})
                assert answer.status == 200, answer
                left = [key for key in keys if node.post(
                    "/cache/get", {"key": key, "consistency": "linearizable"})["found"]]
                assert left == [], f"round {rounds}, {len(moved)} moves"
                rounds += 1
        finally:
            is_over.set()
            thread.join(60)
        assert not thread.is_alive()
