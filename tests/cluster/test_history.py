"""The checkers themselves: good histories pass, each kind of bad one is refused.

Times are small numbers of milliseconds; `at` turns them into a line's nanoseconds."""

import random

import pytest

import history
from history import MS


def at(kind, start, end, f, out="ok", **fields):
    return {"type": kind, "f": f, "out": out, "res": "r", "client": fields.pop("client", "c1"),
            "start": start * MS, "end": end * MS, **fields}


def lock(start, end, f, owner, out="ok", **fields):
    if f in ("acquire", "renew"):
        fields.setdefault("lease_ms", 1000)
    return at("lock", start, end, f, out, owner=owner, client=owner, **fields)


def refused(check, lines, *words):
    wrong = check(lines)
    assert wrong, "a bad history passed"
    assert all(word in " ".join(wrong) for word in words), wrong
    return wrong


# Locks

GOOD_LOCKS = [
    lock(0, 10, "acquire", "a", token=5),
    lock(20, 30, "acquire", "b", out="conflict"),
    lock(40, 50, "release", "a", token=5),
    lock(45, 60, "acquire", "b", token=6, mode="s"),
    lock(61, 70, "acquire", "c", token=7, mode="s"),
    lock(62, 63, "status", "b", token=6, held=True),
    lock(500, 510, "renew", "b", token=6),
    lock(900, 990, "acquire", "d", out="unknown"),
    lock(1560, 1570, "acquire", "e", token=9),
]


def test_good_locks():
    assert history.check_locks(GOOD_LOCKS) == []


@pytest.mark.parametrize("extra,word", [
    ([lock(11, 12, "acquire", "z", token=8), lock(15, 16, "release", "z", token=8)], "two holders"),
    ([lock(100, 110, "acquire", "z", token=8)], "two holders"),  # among shared ones
    ([lock(1400, 1410, "acquire", "z", token=8)], "two holders"),  # renewed until 1500
    ([lock(3000, 3010, "acquire", "z", token=8)], "token not higher"),
    ([lock(3000, 3010, "acquire", "z", token=9)], "token not higher"),
    ([lock(600, 610, "renew", "b", out="not_held", token=6)], "lost before"),
    ([lock(600, 610, "release", "b", out="not_held", token=6)], "lost before"),
    ([lock(600, 610, "status", "b", token=6, held=False)], "said to be free"),
    ([lock(52, 53, "status", "a", token=5, held=True)], "said to be held"),
])
def test_bad_locks(extra, word):
    refused(history.check_locks, GOOD_LOCKS + extra, word)


def test_locks_an_unknown_release_frees():
    lines = [lock(0, 10, "acquire", "a", token=5),
             lock(20, 900, "release", "a", out="unknown", token=5),
             lock(30, 40, "acquire", "b", token=6)]
    assert history.check_locks(lines) == []
    # One that certainly had no effect does not.
    lines[1]["out"] = "fail"
    refused(history.check_locks, lines, "two holders")


def test_locks_a_repeat_gives_the_grant_whose_answer_was_lost():
    lines = [lock(0, 10, "acquire", "a", out="unknown"),
             {**lock(20, 30, "acquire", "b", token=6), "res": "other"},
             lock(40, 50, "acquire", "a", token=5)]
    assert history.check_locks(lines) == []
    refused(history.check_locks, lines[1:], "token not higher")


def test_locks_of_sessions():
    lines = [lock(0, 10, "acquire", "a", token=5, lease_from=-500 * MS),
             lock(600, 610, "acquire", "b", token=6)]
    assert history.check_locks(lines) == []
    refused(history.check_locks, [{**lines[0], "lease_from": -200 * MS}, lines[1]], "two holders")
    end = {**lock(300, 310, "session_end", "a"), "res": ""}
    assert history.check_locks([{**lines[0], "lease_from": 0}, end, lines[1]]) == []


def test_locks_several_under_one_token():
    lines = [lock(0, 10, "acquire", "a", token=5), lock(0, 10, "acquire", "a", token=5)]
    lines[1]["res"] = "other"
    assert history.check_locks(lines) == []


# Queues


def publish(start, end, name, out="ok", **fields):
    return at("queue", start, end, "publish", out, id=name, **fields)


def consume(start, end, *messages, **fields):
    msgs = [{"id": name, "key": key, "receipt": f"{name}/{attempt}", "attempt": attempt}
            for name, key, attempt in messages]
    fields.setdefault("timeout_ms", 100)
    return at("queue", start, end, "consume", msgs=msgs, **fields)


def ack(start, end, name, attempt, out="ok", f="ack", **fields):
    return at("queue", start, end, f, out, id=name, receipt=f"{name}/{attempt}", **fields)


DRAINED = at("queue", 9000, 9000, "drained")

GOOD_QUEUE = [
    publish(0, 5, "m1", key="k"), publish(6, 9, "m2", key="k"), publish(7, 9, "m3"),
    publish(7, 9, "m4", out="unknown"),
    consume(10, 12, ("m1", "k", 1), ("m3", None, 1)),
    ack(20, 22, "m3", 1), ack(30, 31, "m1", 1, f="extend", timeout_ms=200),
    consume(225, 231, ("m1", "k", 2)),
    ack(240, 250, "m1", 2, f="nack"),
    consume(241, 252, ("m1", "k", 3)), ack(260, 270, "m1", 1, out="stale"),
    ack(271, 280, "m1", 3), consume(272, 282, ("m2", "k", 1)), ack(290, 300, "m2", 1), DRAINED,
]


def test_good_queue():
    assert history.check_queues(GOOD_QUEUE) == []


@pytest.mark.parametrize("extra,word", [
    ([publish(400, 410, "m9")], "lost"),
    ([publish(400, 410, "m9"), consume(420, 430, ("m9", None, 1))], "never acked"),
    ([publish(400, 410, "m9"), consume(420, 430, ("m9", None, 1)),
      ack(440, 441, "m9", 1, out="fail")], "never acked"),
    ([consume(420, 430, ("ghost", None, 1))], "never published"),
    ([consume(5000, 5010, ("m3", None, 2))], "after its ack"),
    ([consume(15, 18, ("m3", None, 2))], "while hidden"),
    ([consume(150, 160, ("m1", "k", 2))], "while hidden"),  # it was extended
    ([consume(235, 237, ("m2", "k", 7))], "before m1 was done"),
    ([ack(50, 60, "m1", 1, out="stale")], "refused while hidden"),
    ([ack(254, 258, "m1", 2)], "outdated delivery was acked"),
    ([publish(400, 410, "a", key="g"), publish(401, 409, "b", key="g"),
      consume(420, 421, ("a", "g", 1)), consume(430, 431, ("b", "g", 1)), ack(440, 441, "a", 1),
      ack(440, 441, "b", 1)], "two in flight"),
])
def test_bad_queue(extra, word):
    refused(history.check_queues, GOOD_QUEUE + extra, word)


def test_queue_not_drained_is_not_lost():
    lines = [line for line in GOOD_QUEUE if line is not DRAINED]
    assert history.check_queues(lines + [publish(400, 410, "m9")]) == []


def test_queue_disconnect_allows_another_delivery():
    lines = [publish(0, 5, "m"), consume(10, 12, ("m", None, 1)),
             consume(40, 45, ("m", None, 2), client="c2")]
    refused(history.check_queues, lines, "while hidden")
    assert history.check_queues(lines + [at("queue", 20, 20, "disconnect")]) == []


def test_ids_belong_to_one_message():
    lines = [publish(0, 5, "m1", message="id-1"), publish(6, 9, "m2", message="id-2"),
             publish(10, 11, "m1", message="id-1"),  # asked again
             at("queue", 20, 21, "consume", msgs=[{"id": "m2", "message": "id-2"}])]
    assert history.check_ids(lines) == []
    refused(history.check_ids, lines + [publish(30, 31, "m3", message="id-1")], "id-1")
    refused(history.check_ids, lines + [
        at("queue", 30, 31, "consume", msgs=[{"id": "m1", "message": "id-2"}])], "id-2")


def test_a_history_ends_before_a_loss():
    """What ended is as it was, what was under way may have been, what it saw is not known."""
    lines = [publish(0, 5, "m1"), publish(90, 110, "m2"), publish(95, 105, "m3", out="full"),
             consume(91, 109, ("m1", None, 1)), publish(100, 120, "m4")]
    left = history.before(lines, 100 * MS)
    assert [(line["id"], line["out"]) for line in left] == [("m1", "ok"), ("m2", "unknown")]


# Registers


def reg(start, end, f, value=None, ver=None, out="ok", **fields):
    if f == "get" and value is None:
        fields["absent"] = True
    elif value is not None:
        fields["value"] = value
    if ver is not None:
        fields["ver"] = ver
    fields.setdefault("client", f"c{start}-{end}")
    return at("reg", start, end, f, out, **fields)


GOOD_REG = [
    reg(0, 5, "get"), reg(0, 10, "add", "a", 1), reg(2, 8, "add", "z", out="exists"),
    reg(12, 20, "put", "b", 2), reg(13, 16, "get", "a", 1), reg(17, 18, "get", "b", 2),
    reg(25, 30, "put", "lost", out="unknown"), reg(25, 30, "put", "late", out="unknown"),
    reg(40, 45, "get", "b", 2), reg(50, 55, "cas", "c", 3, expect_ver=2),
    reg(60, 65, "cas", "x", expect_ver=2, out="mismatch"), reg(70, 75, "get", "late", 4),
    reg(80, 85, "delete"), reg(90, 95, "delete", out="absent"), reg(96, 97, "get"),
]


def test_good_register():
    assert history.check_registers(GOOD_REG) == []


@pytest.mark.parametrize("extra,word", [
    ([reg(21, 24, "get", "a", 1)], "not linearizable"),  # an old read
    ([reg(41, 44, "get")], "not linearizable"),
    ([reg(98, 99, "get", "late", 4)], "not linearizable"),  # after its delete
    ([reg(61, 64, "cas", "y", 4, expect_ver=2)], "not linearizable"),  # won twice
    # "lost" may have come so late for one of them, not for both.
    ([reg(98, 99, "delete"), reg(98, 99, "delete")], "not linearizable"),
    ([reg(21, 24, "get", "never")], "not linearizable"),
    ([reg(100, 101, "put", "d", 2), reg(102, 103, "get", "d", 2)], "version not higher"),
    ([reg(21, 24, "get", "b", 3)], "two versions"),
    ([reg(31, 32, "add", "n", 9)], "not linearizable"),  # it was there
    ([reg(31, 32, "delete", out="absent")], "not linearizable"),
])
def test_bad_register(extra, word):
    refused(history.check_registers, GOOD_REG + extra, word)


def test_unknown_may_come_late_or_never():
    late = reg(0, 5, "put", "x", out="unknown")
    base = [reg(10, 11, "put", "y", 2), late]
    assert history.check_registers(base + [reg(12, 13, "get", "y", 2)]) == []
    assert history.check_registers(base + [reg(12, 13, "get", "y", 2),
                                           reg(14, 15, "get", "x", 3)]) == []
    refused(history.check_registers, base + [reg(12, 13, "get", "y", 2), reg(14, 15, "get", "x", 3),
                                             reg(16, 17, "get", "y", 2)], "not linearizable")
    late["out"] = "fail"
    refused(history.check_registers, base + [reg(14, 15, "get", "x", 3)], "not linearizable")


def test_client_reads():
    def read(start, value, ver, mode="position", **fields):
        return reg(start, start + 1, "get", value, ver, client="p", mode=mode, **fields)

    writes = [reg(0, 5, "put", "a", 1), reg(10, 15, "put", "b", 2), reg(20, 25, "put", "c", 3)]
    assert history.check_registers(writes + [read(30, "a", 1), read(40, "b", 2)]) == []
    refused(history.check_registers, writes + [read(30, "b", 2), read(40, "a", 1)], "went back")
    refused(history.check_registers, writes + [read(30, "b", 2), read(40, None, None)],
            "went back")
    own = reg(30, 35, "put", "d", 4, client="p")
    refused(history.check_registers, writes + [own, read(40, "c", 3)], "went back")
    refused(history.check_registers, writes + [read(30, "z", 9)], "nobody wrote it")
    near = [read(30, "b", 2, mode="near", bound_ms=10)]
    assert history.check_registers(writes + near) == []
    near = [read(40, "b", 2, mode="near", bound_ms=10)]
    refused(history.check_registers, writes + near, "staler")


def test_random_registers():
    """What a real register did passes; a read of another old value is refused in most cases."""
    rng = random.Random(7)
    caught = 0
    for _ in range(60):
        lines, state, clock = [], None, 0
        busy = [0] * 4
        for number in range(30):
            worker = min(range(4), key=lambda n: busy[n])
            start = busy[worker] + rng.randrange(1, 5)
            clock = point = max(start + rng.randrange(1, 4), clock + 1)
            end = point + rng.randrange(1, 5)
            busy[worker] = end
            client = f"w{worker}"
            if rng.random() < 0.4:
                state = f"v{number}"
                lines.append(reg(start, end, "put", state, client=client,
                                 out=rng.choice(["ok", "ok", "ok", "unknown"])))
            else:
                lines.append(reg(start, end, "get", state, client=client))
        assert history.check_registers(lines) == []
        values = [line["value"] for line in lines if line["f"] == "put"]
        reads = [line for line in lines if line["f"] == "get" and "value" in line]
        if len(values) > 3 and reads:
            reads[-1]["value"] = values[0]
            caught += bool(history.check_registers(lines))
    assert caught > 40


# Counters, leaders, the run


def test_counters():
    def add(start, value, out="ok"):
        return at("counter", start, start + 5, "add", out, value=value)

    lines = [add(0, 1), add(10, 2), add(10, None, "unknown"), add(20, 4),
             at("counter", 90, 91, "final", value=4)]
    assert history.check_counters(lines) == []
    again = at("counter", 40, 45, "again", value=2, of=2)
    assert history.check_counters(lines + [again]) == []
    refused(history.check_counters, lines + [{**again, "value": 3}], "repeat")
    refused(history.check_counters, lines + [add(30, 4)], "twice")
    refused(history.check_counters, lines + [add(30, 3)], "went back")
    lines[-1]["value"] = 5
    refused(history.check_counters, lines, "5 after 3 to 4")
    lines[-1]["value"] = 2
    refused(history.check_counters, lines, "2 after 3 to 4")


def test_leaders():
    def leader(node, group, term):
        return {"type": "raft", "f": "leader", "res": group, "node": node, "term": term, "start": 1}

    lines = [leader("n1", 0, 1), leader("n1", 0, 1), leader("n2", 1, 1), leader("n2", 0, 2)]
    assert history.check_leaders(lines) == []
    refused(history.check_leaders, lines + [leader("n3", 0, 2)], "led term 2")


def test_runs():
    note = {"type": "note", "start": 0, "what": "kill n1"}
    last = {"type": "note", "start": 2000 * MS, "what": "heal"}
    lines = [reg(n, n + 1, "put", f"v{n}", out="ok" if n % 4 == 0 else "fail")
             for n in range(400)]
    assert history.check_run([note, *lines, last]) == []
    refused(history.check_run, lines, "0 faults", "0 calls")
    for line in lines:
        line["out"] = "unknown" if line["start"] % (10 * MS) else "ok"
    refused(history.check_run, [note, *lines, last], "were answered")


def test_recorder(tmp_path):
    recorder = history.Recorder()
    recorder.add(**reg(5, 6, "put", "x", 1))
    recorder.note("kill n1")
    path = recorder.save(tmp_path / "h.jsonl")
    assert history.load(path)[0] == reg(5, 6, "put", "x", 1)
    assert history.summary(history.load(path))["faults"] == 1
