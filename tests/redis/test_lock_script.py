"""lock.lua alone, against a real Redis: who may write, batches done once, whole states in parts."""

import pathlib

import pytest

from redis_server import Cluster, Redis, RedisError

SCRIPT = (pathlib.Path(__file__).resolve().parents[2] / "server/redis/lua/lock.lua").read_text()
KEYS = [f"p/rukun:{{lock}}:{name}" for name in ("meta", "records", "staging", "names", "never")]


@pytest.fixture(scope="module")
def server():
    with Redis() as redis:
        yield redis


def script(server, *args):
    """The answer; what says that Redis has room goes without saying."""
    answer = server("EVAL", SCRIPT, len(KEYS), *KEYS, *args)
    if answer[0] == "ok" and len(answer) == 3 and answer[2] == 0:
        answer.pop()
        if answer[1] == "":
            answer.pop()
    return answer


@pytest.fixture
def run(server):
    server("FLUSHALL")

    def call(operation, *args, term=5, history="77", cluster="c1", version=1):
        if operation == "claim" and not args:
            args = [0]
        return script(server, operation, version, cluster, term, history, *args)

    return call


def records(server):
    fields = server("HGETALL", KEYS[1])
    return dict(zip(fields[::2], fields[1::2]))


VIEW = ["V", 4, "a%3Ab", 1, "owner", "alice", 1, "alice", 2, "bob", "carol"]


def loss(answer):
    assert answer[0] == "ok", answer
    return answer[5]


def test_a_claim_tells_what_is_there(run, server):
    assert run("claim") == ["ok", "0", "0", "0", 0, ""]
    assert run("write", 0, 0, 1, 111, 9, "P", "1:0", "meta", "P", "11:4", "lock", *VIEW) == ["ok"]
    assert server("LRANGE", "p/{lock}:a%3Ab:waiters", 0, -1) == ["bob", "carol"]
    assert run("claim", 5, term=6) == ["ok", "1", "111", "9", 2, ""]
    assert run("claim", term=5) == ["fenced", "term 6 has it"]
    assert run("write", 1, 111, 2, 222, 10, "P", "1:0", "x")[0] == "fenced"
    assert records(server) == {"1:0": "meta", "11:4": "lock"}
    # Another history is above any term.
    assert "another history" in loss(run("claim", 6, term=1, history="88"))
    assert run("write", 1, 111, 2, 222, 10, term=6)[0] == "fenced"


def test_a_loss_is_told_until_a_batch_is_written(run, server):
    run("claim")
    run("write", 0, 0, 1, 111, 9, "P", "1:0", "meta")
    assert loss(run("claim", 5)) == loss(run("claim", 5, term=6)) == ""
    assert loss(run("claim", 5, term=7)) == "", "whoever claims without serving changes nothing"
    old = server("DUMP", KEYS[0]), server("DUMP", KEYS[1])
    run("write", 1, 111, 2, 222, 9, "P", "1:0", "meta", term=7)
    assert loss(run("claim", 7, term=8)) == ""
    assert loss(run("claim", 8, term=9)) == "", "it died before its first batch"

    server("FLUSHALL")
    for term in (10, 10, 11, 12):
        assert "empty" in loss(run("claim", 8, term=term)), term
    run("write", 0, 0, 1, 444, 9, "P", "1:0", "meta", term=12)
    assert loss(run("claim", 12, term=13)) == ""

    # A claim of before the first mark is done once more, late.
    server("FLUSHALL")
    run("claim", 0, term=13)
    run("claim", 0, term=13)
    assert "empty" in loss(run("claim", 13, term=14))

    # An older state.
    server("DEL", *KEYS[:2])
    for key in (0, 1):
        server("EVAL", "redis.call('RESTORE', KEYS[1], 0, ARGV[1])", 1, KEYS[key],
               old[key].encode("utf-8", "surrogateescape"))
    for term in (20, 20, 21):
        assert "older" in loss(run("claim", 13, term=term)), term
    run("write", 1, 111, 2, 555, 9, "P", "1:0", "meta", term=21)
    assert loss(run("claim", 21, term=22)) == ""

    # Another history, also after that claimed it.
    for term in (1, 1, 2):
        assert loss(run("claim", 0, term=term, history="88")) != "", term
    run("write", 2, 555, 3, 666, 9, "P", "1:0", "meta", term=2, history="88")
    assert loss(run("claim", 2, term=3, history="88")) == ""

    # Records alone.
    server("DEL", KEYS[1])
    assert "empty" in loss(run("claim", 3, term=4, history="88"))


def test_a_write_back_that_is_cut_off_is_a_loss(run, server):
    run("claim", term=4)
    run("write", 0, 0, 1, 111, 1, "P", "1:0", "meta", term=4)
    run("begin", 0, 0, 7, 777, term=4)
    run("stage", 777, "P", "1:0", "meta", "P", "11:4", "lock", term=4)
    for term in (5, 5, 6):
        assert loss(run("claim", 4, term=term)) != "", term
    run("begin", 0, 0, 8, 888, term=6)
    run("stage", 888, "P", "1:0", "meta", term=6)
    assert run("commit", 888, 8, 3, 1, term=6) == ["ok"]
    assert loss(run("claim", 6, term=7)) == ""


def test_batches_are_done_once_and_in_order(run, server):
    run("claim")
    assert run("write", 0, 0, 1, 111, 1, "P", "1:0", "a") == ["ok"]
    assert run("write", 0, 0, 1, 111, 1, "P", "1:0", "again") == ["ok"]
    assert records(server) == {"1:0": "a"}
    assert run("write", 1, 111, 1, 111, 1) == ["ok"], "a look changes nothing"
    assert run("write", 1, 999, 2, 222, 2, "P", "1:0", "b")[0] == "regress"
    assert run("write", 5, 555, 6, 666, 2, "P", "1:0", "b")[0] == "regress"
    assert run("write", 1, 111, 2, 222, 2, "P", "1:0", "") == ["ok"]
    assert records(server) == {}
    server("HSET", KEYS[0], "term", 4)
    assert run("write", 2, 222, 2, 222, 2)[0] == "regress", "an older state of the same seq"
    server("DEL", KEYS[0])
    assert run("write", 2, 222, 3, 333, 2) == ["regress", "it is empty"]


def test_whose_it_is(run):
    run("claim")
    assert run("claim", cluster="c2") == ["foreign", "c1"]
    assert run("write", 0, 0, 1, 1, 1, cluster="c2") == ["foreign", "c1"]
    assert run("claim", version=2) == ["format", "1"]


def test_views_go_with_their_locks(run, server):
    run("claim")
    run("write", 0, 0, 1, 111, 1, "P", "11:4", "lock", *VIEW)
    assert len(server("KEYS", "p/{lock}:*")) == 3
    run("write", 1, 111, 2, 222, 1, "P", "11:4", "")
    assert server("KEYS", "p/{lock}:*") == []
    assert server("EXISTS", KEYS[3]) == 0
    # A claim of a store without meta leaves nothing of what was there.
    run("write", 2, 222, 3, 333, 1, "P", "11:4", "lock", *VIEW)
    server("DEL", KEYS[0])
    assert run("claim", 5)[1:5] == ["0", "0", "0", 0]
    assert server("KEYS", "p/*") == [KEYS[0]]


def test_a_whole_state_comes_in_parts(run, server):
    run("claim", term=4)
    run("write", 0, 0, 1, 111, 1, "P", "11:9", "stale", "V", 9, "gone", 0, 1, "x", 0, term=4)
    assert run("begin", 0, 0, 7, 777) == ["ok", "go on"]
    assert run("claim", term=4)[0] == "fenced"
    assert run("stage", 777, "P", "1:0", "meta") == ["ok"]
    assert run("stage", 778, "P", "1:0", "meta")[0] == "again"
    assert records(server) == {"11:9": "stale"}, "nothing is seen of it yet"
    assert run("commit", 777, 7, 3, 2)[0] == "again", "a part is missing"
    assert run("stage", 777, "P", "11:4", "lock") == ["ok"]
    assert run("commit", 777, 7, 3, 2) == ["ok"]
    assert records(server) == {"1:0": "meta", "11:4": "lock"}
    assert server("KEYS", "p/{lock}:gone*") == []
    assert run("views", 777, *VIEW) == ["ok"]
    assert server("HGET", "p/{lock}:a%3Ab", "owner") == "alice"
    assert run("begin", 0, 0, 7, 777) == ["ok", "done"], "it was lost on the way back"
    assert run("write", 7, 777, 8, 888, 4, "P", "1:0", "on") == ["ok"]
    server("FLUSHALL")
    assert run("commit", 777, 7, 3, 2)[0] == "regress"
    assert run("views", 777, *VIEW)[0] == "regress"


def test_a_large_batch_comes_in_parts(run, server):
    run("claim")
    run("write", 0, 0, 1, 111, 1, "P", "1:0", "meta", "P", "11:4", "lock", *VIEW, "P", "12:5", "x")
    before = records(server)
    assert run("prepare", 0, 0, 2, 222)[0] == "regress"
    assert run("prepare", 1, 111, 2, 222) == ["ok", "go on"]
    assert run("stage", 222, "P", "1:0", "next", "P", "11:4", "") == ["ok"]
    assert run("apply", 222, 2, 9, 3, 1, 111)[0] == "again", "a part is missing"
    assert run("stage", 333, "P", "1:0", "x")[0] == "again"
    assert records(server) == before, "nothing is seen of it yet"
    assert len(server("KEYS", "p/{lock}:a%3Ab*")) == 3
    assert run("prepare", 1, 111, 2, 222) == ["ok", "go on"], "from the beginning"
    assert run("apply", 222, 2, 9, 2, 1, 111)[0] == "again"
    run("stage", 222, "P", "1:0", "next", "P", "11:4", "")
    run("stage", 222, "P", "11:6", "new")
    run("stage", 222, "P", "11:6", "new")
    assert run("apply", 222, 2, 9, 3, 1, 111) == ["ok"]
    assert records(server) == {"1:0": "next", "11:6": "new", "12:5": "x"}
    assert server("KEYS", "p/{lock}:*") == [], "the lock went with its view"
    assert run("prepare", 1, 111, 2, 222) == ["ok", "done"]
    assert run("apply", 222, 2, 9, 3, 1, 111)[0] == "regress"
    assert run("views", 222, "V", 6, "new", 1, "owner", "alice", 1, "alice", 0) == ["ok"]
    assert run("claim", 5) == ["ok", "2", "222", "9", 3, ""]

    # One that is never applied is no loss, and leaves nothing to the next leader.
    run("prepare", 2, 222, 3, 333)
    run("stage", 333, "P", "1:0", "x")
    assert run("claim", 5, term=6) == ["ok", "2", "222", "9", 3, ""]
    assert server("EXISTS", KEYS[2]) == 0
    assert run("stage", 333, "P", "1:0", "x")[0] == "fenced"


def test_nothing_is_half_done_while_the_slot_moves():
    """All keys named but one are there, or none is: no script runs but in a slot at rest."""
    head = ["1", "c1", "5", "77"]
    batch = ["write", *head, 0, 0, 1, 111, 1, "P", "1:0", "meta", "P", "11:4", "lock", *VIEW]
    calls = [batch, ["claim", *head, 0], ["begin", *head, 0, 0, 7, 777]]
    with Cluster(replicas=0) as cluster:
        slot = cluster.slot("{lock}")
        source = cluster.owner(slot)
        target = next(server for server in cluster.servers if server is not source)
        script(source, "claim", *head, 0)
        for key in KEYS[1:4]:
            source("HSET", key, "x", "y")
        before = [source("HGETALL", key) for key in KEYS]

        def refuses(server, word):
            for call in calls:
                with server.connect() as connection:
                    if server is target:
                        connection("ASKING")
                    with pytest.raises(RedisError, match=f"^{word}"):
                        script(connection, *call)

        cluster.begin_move(slot, target)
        refuses(source, "TRYAGAIN")
        refuses(target, "TRYAGAIN")
        source("MIGRATE", "127.0.0.1", target.port, KEYS[0], 0, 5000)
        refuses(source, "TRYAGAIN")
        refuses(target, "TRYAGAIN")
        cluster.move_keys(slot, source, target)
        refuses(source, "ASK")
        refuses(target, "TRYAGAIN")
        cluster.end_move(slot, target)
        assert [target("HGETALL", key) for key in KEYS] == before
        assert script(target, *batch) == ["ok"]


def test_a_full_redis_refuses_nothing_and_says_so(run, server):
    run("claim")
    run("write", 0, 0, 1, 111, 1, "P", "1:0", "meta", "P", "11:4", "lock", *VIEW)
    server("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(RedisError, match="^OOM"):
            server("SET", "x", 1)
        assert run("write", 1, 111, 1, 111, 1) == ["ok", "", 1], "a look"
        assert run("write", 1, 111, 2, 222, 1, "P", "11:4", "lock" * 100, *VIEW) == ["ok", "", 1]
        assert run("prepare", 2, 222, 3, 333) == ["ok", "go on", 1]
        assert run("stage", 333, "P", "11:4", "", "P", "1:0", "next") == ["ok", "", 1]
        assert run("apply", 333, 3, 1, 2, 2, 222) == ["ok", "", 1]
        assert records(server) == {"1:0": "next"}
        assert run("begin", 0, 0, 9, 999) == ["ok", "go on", 1]
        run("stage", 999, "P", "1:0", "meta", "P", "11:4", "lock")
        assert run("commit", 999, 9, 1, 2) == ["ok", "", 1]
        assert run("views", 999, *VIEW) == ["ok", "", 1]
        assert run("claim", 5, term=6) == ["ok", "9", "999", "1", 2, ""]
    finally:
        server("CONFIG", "SET", "maxmemory", 0)
    assert run("write", 9, 999, 9, 999, 1, term=6) == ["ok"]
    assert server("EXISTS", KEYS[4]) == 0
