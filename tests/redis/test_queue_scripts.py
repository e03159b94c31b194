"""The scripts of topics, run on a redis-server: what keys they leave, and what the comparison
with the embedded engine (tests/redis/twin.c) does not reach."""
import random

import pytest
from redis_server import Redis
from script_bench import EPOCH_MS, HISTORY, LUA, Connection, Refused, Topics, message_id


@pytest.fixture(scope="module")
def server():
    with Redis() as server:
        yield server


@pytest.fixture
def topics(server):
    connection = Connection(server.port)
    connection("FLUSHALL")
    yield Topics(connection)
    connection.close()


def test_keys_through_a_message_s_life(topics):
    redis = topics.redis
    [id] = topics.publish("t", "body")
    assert id == message_id(topics.now - EPOCH_MS, 1)
    assert redis("LRANGE", "q:{t}", 0, -1) == [id]
    assert redis("HGET", "q:{t}:msg", id) == b"body"
    assert redis("HEXISTS", "q:inflight:{t}", id) == 0
    delivery = topics.take("t")
    assert delivery == (id, 1)
    assert redis("LRANGE", "q:{t}", 0, -1) == []
    assert redis("HGET", "q:inflight:{t}", id) == (
        f"attempt=1 until={topics.now + 30000} consumer=c1".encode())
    assert redis("ZSCORE", "q:{t}:due", id) == str(topics.now + 30000).encode()
    assert topics.settle("ack", "t", delivery) == 0
    assert redis("HEXISTS", "q:inflight:{t}", id) == 0
    # Nothing of the message is left: counters and settings of the topic only.
    assert redis("KEYS", "q:*") == [b"q:{t}:info"]


def test_numbers_of_messages(topics):
    topics.at(EPOCH_MS - 5)
    for topic_number, last in ((1, 2**35), (2**20, 127), (2**24 - 1, 2**40 - 2), (77, 2**31)):
        topic = f"t{topic_number}"
        assert topics.publish(topic, "x", number=topic_number) == [message_id(1, topic_number)]
        topics.redis("HSET", f"q:{{{topic}}}:info", "last", last)
        assert topics.publish(topic, "x") == [message_id(last + 1, topic_number)]
    # With the clock, so that a Redis that went back gives none twice.
    topics.at(EPOCH_MS + 2**33)
    first = topics.publish("t", "x", "y", number=5)
    assert first == [message_id(2**33, 5), message_id(2**33 + 1, 5)]
    topics.redis("HSET", "q:{t}:info", "last", 1)
    topics.at(EPOCH_MS + 2**33 + 2)
    assert topics.publish("t", "x") == [message_id(2**33 + 2, 5)]


def test_priorities_have_lists_of_their_own(topics):
    low, high = topics.publish("t", "a")[0], topics.publish("t", "b", priority=7)[0]
    assert topics.redis("LRANGE", "q:{t}", 0, -1) == [low]
    assert topics.redis("LRANGE", "q:{t}:p7", 0, -1) == [high]
    assert [topics.take("t")[0], topics.take("t")[0]] == [high, low]


def test_dead_letters_stand_in_keys_of_the_same_slot(topics):
    [id] = topics.publish("t", "a")
    assert topics.settle("nack", "t", topics.take("t"), dead=1) == 0
    assert topics.listing == 1  # until its topic stands in the list of topics
    assert topics.redis("LRANGE", "q:{t}:dead", 0, -1) == [id]
    assert topics.info("t")["dead"] == 1
    topics.admin("number", "t/dead", number=9)
    topics.info("t")
    assert topics.listing == 0
    # An ack of a dead letter's delivery finds it by its topic's number.
    assert topics.settle("ack", "t", topics.take("t/dead")) == 0
    assert topics.info("t")["dead"] == 0


def test_redrive_to_another_topic_and_back(topics):
    topics.publish("a", "x")
    topics.publish("b", "y")
    topics.settle("nack", "a", topics.take("a"), dead=1)
    topics.settle("ack", "b", topics.take("b"))
    assert topics.admin("redrive", "a", keys=["q:{b}"], name="b") == 1
    id, attempt = topics.take("b")
    assert attempt == 2
    assert topics.redis("HGET", "q:{a}:moved", id) == b"q:{b}"
    assert topics.settle("nack", "a", (id, attempt), dead=1) == 0
    assert topics.redis("LRANGE", "q:{b}:dead", 0, -1) == [id]
    assert topics.admin("redrive", "b", keys=["q:{a}"], name="a") == 1
    assert topics.redis("EXISTS", "q:{a}:moved") == 0
    assert topics.settle("ack", "a", topics.take("a")) == 0
    assert topics.redis("EXISTS", "q:{a}:msg", "q:{b}:msg", "q:{b}:dead:msg") == 0


def test_a_topic_needs_a_number_before_it_is_made(topics):
    assert topics.publish("t", "a", number="") is None
    assert topics.redis("KEYS", "q:*") == []
    topics.publish("t", "a")
    assert topics.publish("t", "a", number="") is not None


def test_same_request_same_answer(topics):
    call = {"client": "c", "seq": 1, "first": 1}
    first = topics.publish("t", "a", "b", **call)
    assert topics.publish("t", "a", "b", **call) == first
    assert topics.info("t")["published"] == 2
    call = {"client": "c", "seq": 2, "first": 1}
    batch = topics.consume("t", 2, **call)
    assert topics.settle("ack", "t", *[(line[0], line[1]) for line in batch]) == [0, 0]
    assert topics.consume("t", 2, **call) == batch
    # Acknowledged ones are dropped and refused.
    topics.publish("t", "c", client="c", seq=4, first=3)
    assert sorted(topics.redis("HKEYS", "q:{t}:client:c")) == [b"4", b"first"]
    with pytest.raises(Refused) as refused:
        topics.publish("t", "d", client="c", seq=2, first=3)
    assert refused.value.status == -12
    assert 0 < topics.redis("PTTL", "q:{t}:client:c") <= 660000


def test_empty_consume_is_not_remembered(topics):
    call = {"client": "c", "seq": 1, "first": 1}
    assert topics.consume("t", **call) == []
    topics.publish("t", "a")
    assert len(topics.consume("t", **call)) == 1


def test_who_waits_is_woken(topics, server):
    listener = Connection(server.port)
    assert listener("SUBSCRIBE", "q:wake")[0] == b"subscribe"
    topics.publish("t", "a")  # nobody waits: nothing is said
    topics.take("t")
    assert topics.consume("t", wait=30000) == [] and topics.due == 30000
    assert topics.redis("PTTL", "q:{t}:awaited") > 0
    topics.publish("t", "b")
    assert listener.read() == [b"message", b"q:wake", b"q:{t}"]
    # A timer before all others: who waits has to look sooner.
    topics.publish("t", "c", delay_ms=50)
    assert listener.read() == [b"message", b"q:wake", b"q:{t}"]
    topics.publish("t", "d", delay_ms=60)
    topics.admin("pause", "t")
    topics.publish("t", "e")
    topics.admin("resume", "t")
    assert listener.read() == [b"message", b"q:wake", b"q:{t}"]
    listener.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.read()
    listener.close()


def test_removal_deep_inside_a_list(topics):
    """Far from the ends an entry stays behind, stale: it is passed over, shed when there are
    many, and a message that comes back stands elsewhere."""
    count = 3000
    ids = topics.publish("t", *["x"] * count)
    order = list(range(100, count - 100))
    random.Random(3).shuffle(order)
    gone = set()
    for i in order[:2500]:
        assert topics.settle("delete", "t", (ids[i], 0)) == 0
        gone.add(i)
        length = topics.redis("LLEN", "q:{t}")
        live = count - len(gone) - topics.redis("ZCARD", "q:{t}:back")
        assert length - live <= max(256, length * 0.6)
    assert topics.redis("ZCARD", "q:{t}:back") > 0
    info = topics.info("t")
    assert info["ready"] == info["count"] == count - len(gone)
    taken = [line[0] for line in topics.consume("t", 1000)]
    assert taken == [id for i, id in enumerate(ids) if i not in gone]
    assert topics.redis("LLEN", "q:{t}") == 0


def test_stale_entry_of_a_message_that_comes_back(topics):
    ids = topics.publish("t", *["x"] * 201)
    first = [topics.take("t") for _ in range(201)]
    # Their time is over; they are ready again, in the list once more.
    topics.at(topics.now + 30000)
    assert topics.redis("LLEN", "q:{t}") == 0 and topics.info("t")["ready"] == 201
    assert topics.redis("LLEN", "q:{t}") == 201
    assert topics.settle("extend", "t", first[100], visibility=1000) == 0
    assert topics.redis("LLEN", "q:{t}") == 201  # its entry stays
    topics.at(topics.now + 1000)
    assert [line[0] for line in topics.consume("t", 1000)] == ids


def test_timers_are_carried_out_a_bounded_number_at_a_time(topics):
    topics.publish("t", *["x"] * 600, delay_ms=10)
    topics.at(topics.now + 10)
    assert [topics.info("t")["ready"] for _ in range(4)] == [256, 512, 600, 600]


def test_group_and_window_keys(topics):
    a, b = topics.publish("t", "a", group="g")[0], topics.publish("t", "b", group="g")[0]
    assert topics.redis("LRANGE", "q:{t}", 0, -1) == [a]
    topics.settle("ack", "t", topics.take("t"))
    assert topics.redis("LRANGE", "q:{t}", 0, -1) == [b]
    topics.publish("t", "c", publish_id="p")
    assert 0 < topics.redis("PTTL", "q:{t}:id:p") <= 300000
    topics.publish("t", "d", scope=2, unique="u")
    assert topics.redis("HEXISTS", "q:{t}:unique", "u") == 1
    assert topics.admin("purge", "t") == 3
    assert topics.redis("HEXISTS", "q:{t}:unique", "u") == 0


def test_full_redis_takes_nothing_and_gives_on(topics):
    ids = topics.publish("t", *["x" * 100] * 50, publish_id="")
    topics.publish("late", "x", delay_ms=10)
    taken = topics.take("t")
    redis = topics.redis
    topics.at(topics.now + 20)
    redis("CONFIG", "SET", "maxmemory", "1")
    try:
        before = redis("HGETALL", "q:{t}:info")
        for topic in ("t", "late", "new"):
            with pytest.raises(Exception, match="OOM"):
                topics.publish(topic, "more")
        assert redis("HGETALL", "q:{t}:info") == before
        assert redis("EXISTS", "q:{new}:info") == 0
        assert topics.settle("ack", "t", taken) == 0
        assert topics.take("t") == (ids[1], 1)
    finally:
        redis("CONFIG", "SET", "maxmemory", "0")
    assert len(topics.consume("t", 100)) == 48


@pytest.fixture
def full(topics):
    """Makes Redis so full that it refuses what it can; the clock has moved on by then."""
    def fill(ms):
        topics.at(topics.now + ms)
        topics.redis("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Exception, match="OOM"):
            topics.redis("SET", "more", "x")
    yield fill
    topics.redis("CONFIG", "SET", "maxmemory", "0")


GIVING_ON = {
    "consume": lambda topics, held: topics.consume("t", max=10),
    "wait": lambda topics, held: topics.consume("t", wait=30000, client="c", seq=9, first=9),
    "ack": lambda topics, held: topics.settle("ack", "t", held),
    "nack": lambda topics, held: topics.settle("nack", "t", held),
    "nack at once": lambda topics, held: topics.settle("nack", "t", held, delay=0),
    "nack later": lambda topics, held: topics.settle("nack", "t", held, delay=1000),
    "nack dead": lambda topics, held: topics.settle("nack", "t", held, dead=1),
    "extend": lambda topics, held: topics.settle("extend", "t", held, visibility=1000),
    "return": lambda topics, held: topics.settle("return", "t", held),
    "delete": lambda topics, held: topics.settle("delete", "t", (held[0], 0)),
    "remembered": lambda topics, held: topics.settle("ack", "t", held, client="c", seq=9, first=9),
    "info": lambda topics, held: topics.info("t"),
    "peek": lambda topics, held: topics.peek("t"),
    "pause": lambda topics, held: topics.admin("pause", "t"),
    "resume": lambda topics, held: topics.admin("resume", "t"),
    "purge": lambda topics, held: topics.admin("purge", "t"),
    "redrive": lambda topics, held: topics.admin("redrive", "t", keys=["q:{t}"]),
    "sweep": lambda topics, held: topics.admin("sweep", "t"),
    "number": lambda topics, held: topics.admin("number", "t", number=1),
}


# What is due 200 ms later: settings of the topic, for how long a message is handed out and how
# long it lives, another message beside it, and how many are left.
DUE = {
    "nothing": ({}, 30000, 0, {}, 1),
    "visibility": ({}, 100, 0, {}, 1),
    "visibility of one with a life": ({}, 100, 3600000, {}, 1),
    "visibility and life": ({}, 100, 150, {}, 0),
    "last visibility": ({"deliveries_max": 1}, 100, 0, {}, 0),
    "delay": ({}, 30000, 0, {"delay_ms": 50}, 2),
    "life": ({}, 30000, 0, {"ttl_ms": 50}, 1),
}


@pytest.mark.parametrize("due", DUE)
@pytest.mark.parametrize("op", GIVING_ON)
def test_full_redis_gives_on(topics, full, op, due):
    """Whatever is due first: a full Redis refuses no call but those that bring something."""
    settings, visibility, ttl_ms, other, left = DUE[due]
    topics.publish("t", "dead")
    topics.settle("nack", "t", topics.take("t"), dead=1, client="c", seq=1, first=1)
    topics.configure("t", **settings)
    topics.publish("t", "body", ttl_ms=ttl_ms)
    held = topics.take("t", visibility=visibility)
    if other:
        topics.publish("t", "other", **other)
    full(200)
    result = GIVING_ON[op](topics, held)
    if op in ("consume", "wait"):
        assert len(result) == (due not in ("nothing", "life") and left > 0)
    elif op == "info":
        assert result["count"] == left
    elif op in ("ack", "remembered"):
        assert result == (-12 if due == "visibility and life" else 0)
    topics.info("t")


@pytest.mark.parametrize("op", ["publish", "new", "configure", "new setting"])
@pytest.mark.parametrize("is_due", [False, True])
def test_full_redis_takes_nothing_more(topics, full, op, is_due):
    """What grows is refused before anything is written, also when something is due first."""
    topics.publish("t", "held", ttl_ms=3600000)
    topics.publish("t", "gone", ttl_ms=50)
    topics.take("t", visibility=100)
    full(200 if is_due else 0)
    before = everything(topics.redis)
    with pytest.raises(Exception, match="OOM"):
        if op in ("publish", "new"):
            topics.publish("t" if op == "publish" else "n", "more", client="c", seq=2, first=2)
        else:
            topics.configure("t" if op == "configure" else "n", retry_ms=1)
    assert everything(topics.redis) == before


def everything(redis, pattern="*"):
    return {key: redis("DUMP", key) for key in redis("KEYS", pattern)}


def test_whose_data_it_is_can_be_asked_of_a_full_redis(topics, full):
    meta = (LUA / "meta.lua").read_text()
    assert topics.redis("EVAL", meta, 1, "rukun:meta", 1, "first", 77) == [b"1", b"first", b"77"]
    topics.redis("HDEL", "rukun:meta", "cluster")  # as after a migration
    full(0)
    with pytest.raises(Exception, match="OOM"):
        topics.redis("EVAL", meta, 1, "rukun:meta", 1, "second", 78)
    topics.redis("CONFIG", "SET", "maxmemory", "0")
    assert topics.redis("EVAL", meta, 1, "rukun:meta", 1, "second", 78) == [b"1", b"second", b"77"]
    full(0)
    assert topics.redis("EVAL", meta, 1, "rukun:meta", 1, "third", 79) == [b"1", b"second", b"77"]


LISTED = ("{q:topics}", "rukun:meta")


@pytest.mark.parametrize("way", ["publish", "configure", "pause", "redrive"])
def test_a_topic_is_made_as_told(topics, way):
    """While Redis holds what the node was told before, else nothing is made."""
    redis = topics.redis
    [dead] = topics.publish("old", "a", number=1)
    topics.settle("nack", "old", topics.take("old"), dead=1)

    def make():
        if way == "publish":
            return topics.publish("new", "b", number=2, keys=LISTED)
        if way == "redrive":
            return topics.admin("redrive", "old", number=2, name="new",
                                keys=("q:{new}", *LISTED))
        return topics.admin(way, "new", number=2, keys=LISTED)

    for number, history in ((None, None), (2, None), (None, HISTORY), (3, HISTORY), (2, 78)):
        redis("DEL", *LISTED)
        if number is not None:
            redis("HSET", "{q:topics}", "new", number)
        if history is not None:
            redis("HSET", "rukun:meta", "history", history)
        before = everything(redis, "q:*new*")
        assert make() is None
        assert everything(redis, "q:*new*") == before == {}
    redis("HSET", "{q:topics}", "new", 2)
    redis("HSET", "rukun:meta", "history", HISTORY)
    assert make() is not None
    assert redis("HGET", "q:{new}:info", "history") == str(HISTORY).encode()


def test_a_bound_never_falls(topics):
    """What a client said not to need any more is not done again, in whatever order its
    requests come."""
    assert topics.publish("t", "a", client="c", seq=7, first=7)
    assert topics.publish("t", "b", client="c", seq=10, first=8)
    assert topics.publish("t", "c", client="c", seq=9, first=7)
    assert topics.redis("HGET", "q:{t}:client:c", "first") == b"8"
    with pytest.raises(Refused) as refused:
        topics.publish("t", "a", client="c", seq=7, first=7)
    assert refused.value.status == -12
    assert topics.consume("t", client="c", seq=11, first=6)
    assert topics.consume("none", client="c", seq=12, first=6) == []
    with pytest.raises(Refused):
        topics.consume("t", client="c", seq=6, first=6)
    assert topics.info("t")["published"] == 3 and topics.info("t")["delivered"] == 1
