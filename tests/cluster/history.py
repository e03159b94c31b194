"""Histories of runs under faults: what clients saw, one JSON line a call, and the checkers.

A line has `type`, `f`, `res`, `client`, `start`, `end` (nanoseconds of time.monotonic_ns() on the
test's host) and `out`: ok; unknown (may have happened at any later time, or never); fail
(certainly without effect); or an answer of its own, such as conflict, not_held, stale, empty,
exists, absent, mismatch. `type` note marks faults. A checker gives a list of texts, one a
violation; none knows the server.
"""

import collections
import heapq
import json
import pathlib
import time

MS = 1_000_000
NEVER = float("inf")


class Recorder:
    """Collects lines from many threads (appending to a list is atomic in CPython)."""

    def __init__(self):
        self.lines = []

    def add(self, **line):
        self.lines.append(line)

    def note(self, what):
        self.add(type="note", start=time.monotonic_ns(), what=what)

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            for line in sorted(self.lines, key=lambda line: line["start"]):
                file.write(json.dumps(line) + "\n")
        return pathlib.Path(path)


def load(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def by_resource(lines, kind):
    found = collections.defaultdict(list)
    for line in lines:
        if line["type"] == kind:
            found[line["res"]].append(line)
    for some in found.values():
        some.sort(key=lambda line: line["start"])
    return found


def brief(line):
    """A line as a violation shows it."""
    left_out = ("type", "msgs", "start", "end", "res")
    rest = " ".join(f"{k}={v}" for k, v in line.items() if k not in left_out)
    begin, end = line["start"] / 1e9, line.get("end", line["start"]) / 1e9
    return f"[{begin:.4f}..{end:.4f} {rest}]"


def rising(events, value, is_strict):
    """Pairs (earlier, later) where the earlier ended before the later began and value did not rise
    (is_strict(later): equal is wrong, too)."""
    wrong = []
    ended = []
    best = None
    for number, event in enumerate(sorted(events, key=lambda event: event["start"])):
        while ended and ended[0][0] < event["start"]:
            done = heapq.heappop(ended)[2]
            if best is None or value(done) > value(best):
                best = done
        if best is not None and (value(event) < value(best) or
                                 (is_strict(event) and value(event) == value(best))):
            wrong.append((best, event))
        heapq.heappush(ended, (event["end"], number, event))
    return wrong


LOOKS = ("get", "consume", "status", "again", "final")


def before(lines, when):
    """The history up to a moment at which the store lost something. Of a call that was under way
    nobody knows whether it is in there, and what it saw may be from after it."""
    kept = []
    for line in lines:
        if line["start"] >= when:
            continue
        if line.get("end", line["start"]) >= when:
            if line["f"] in LOOKS or line["out"] not in ("ok", "unknown"):
                continue
            line = {**line, "out": "unknown"}
        kept.append(line)
    return kept


# Locks


class Hold:
    """A grant, as long as its holder may count on it; asked: when its owner first asked for it."""

    def __init__(self, line, asked):
        self.line, self.grant = line, {**line, "start": asked}
        self.owner, self.token = line["owner"], line["token"]
        self.is_shared = line.get("mode", "x") == "s"
        self.begin = line["end"]
        self.until = line.get("lease_from", line["start"]) + line["lease_ms"] * MS
        self.is_given_back = False
        self.freed = NEVER  # when it was certainly over

    def renew(self, line):
        until = line["start"] + line["lease_ms"] * MS
        if line["out"] == "ok":
            self.until = until
        elif line["out"] == "unknown":
            self.until = min(self.until, until)

    def give_back(self, line):
        if line["out"] == "fail":
            return
        self.until = min(self.until, line["start"])
        self.is_given_back = True
        if line["out"] == "ok":
            self.freed = min(self.freed, line["end"])


def follow(holds, line, wrong):
    """What one line does to the holds that it names."""
    for hold in holds:
        if line["owner"] != hold.owner or line.get("token", hold.token) != hold.token:
            continue
        if line["start"] < hold.begin:
            continue
        if line["out"] == "not_held" and not hold.is_given_back and line["end"] < hold.until:
            wrong.append(f"lost before its lease was over: {brief(hold.line)} {brief(line)}")
        if line["f"] == "renew":
            hold.renew(line)
        elif line["f"] in ("release", "session_end"):
            hold.give_back(line)
        elif line["f"] == "status" and line["out"] == "ok":
            if not line["held"] and line["end"] < hold.until:
                wrong.append(f"said to be free: {brief(hold.line)} {brief(line)}")
            if line["held"] and hold.freed < line["start"]:
                wrong.append(f"said to be held: {brief(hold.line)} {brief(line)}")


def resource_holds(lines, ends, wrong):
    """The holds of one resource; ends: the session_end lines of all owners."""
    holds, known, asked = [], {}, {}
    for line in sorted(lines + ends, key=lambda line: line["start"]):
        if line["f"] != "acquire":
            follow(holds, line, wrong)
        elif line["out"] == "unknown":
            asked.setdefault(line["owner"], line["start"])
        elif line["out"] == "ok":
            again = known.get((line["owner"], line["token"]))
            if again is not None:
                again.renew(line)
                continue
            # It may be an earlier grant whose answer was lost.
            hold = Hold(line, asked.get(line["owner"], line["start"]))
            known[line["owner"], line["token"]] = hold
            holds.append(hold)
    return holds


def check_locks(lines):
    """No two owners at a time where one is exclusive; tokens rise; none is lost early."""
    wrong = []
    grants = []
    ends = [line for line in lines if line["type"] == "lock" and line["f"] == "session_end"]
    rest = [line for line in lines if line["type"] == "lock" and line["f"] != "session_end"]
    for res, some in by_resource(rest, "lock").items():
        found = []
        owners = {line.get("owner") for line in some}
        holds = resource_holds(some, [end for end in ends if end["owner"] in owners], found)
        grants += [hold.grant for hold in holds]
        active = []
        for hold in sorted(holds, key=lambda hold: hold.begin):
            active = [other for other in active if other.until > hold.begin]
            for other in active:
                if hold.until <= hold.begin or hold.owner == other.owner:
                    continue
                if not (hold.is_shared and other.is_shared):
                    found.append(f"two holders: {brief(other.line)} {brief(hold.line)}")
            active.append(hold)
        wrong += [f"lock {res}: {text}" for text in found]
    for before, after in rising(grants, lambda line: line["token"], lambda _: True):
        same = before["owner"] == after["owner"] and before["token"] == after["token"]
        if not same:  # several resources under one token
            wrong.append(f"lock {after['res']}: token not higher: {brief(before)} {brief(after)}")
    return wrong


# Queues


class Delivery:
    def __init__(self, line, message):
        self.line, self.id, self.key = line, message["id"], message.get("key")
        self.start, self.end = line["start"], line["end"]
        self.attempt = message.get("attempt")
        self.hidden_until = line["start"] + line["timeout_ms"] * MS  # not given out again before
        self.let_go = NEVER  # when acked, nacked or disconnected at the earliest
        self.done = NEVER  # when acked at the earliest
        self.acked = None  # the ok ack

    def extend(self, line):
        until = line["start"] + line["timeout_ms"] * MS
        if line["out"] == "ok":
            self.hidden_until = until
        elif line["out"] == "unknown":
            self.hidden_until = min(self.hidden_until, until)

    def end_by(self, line):
        """An ack, nack or disconnect that may have worked."""
        self.let_go = min(self.let_go, line["start"])
        if line["f"] == "ack":
            self.done = min(self.done, line["start"])
            if line["out"] == "ok" and self.acked is None:
                self.acked = line

    @property
    def free_from(self):
        """The earliest time of another delivery."""
        return min(self.hidden_until, self.let_go)

    def is_acked_before(self, other):
        return self.acked is not None and self.acked["end"] < other.start


def follow_deliveries(lines, wrong):
    """All deliveries, as their acks, nacks and extensions left them."""
    by_receipt, deliveries = {}, []
    for line in sorted(lines, key=lambda line: line.get("end", line["start"])):
        if line["f"] == "consume" and line["out"] == "ok":
            for message in line["msgs"]:
                if message["receipt"] in by_receipt:
                    wrong.append(f"one receipt twice: {message['receipt']} {brief(line)}")
                by_receipt[message["receipt"]] = Delivery(line, message)
                deliveries.append(by_receipt[message["receipt"]])
        elif line["f"] == "disconnect":
            for delivery in deliveries:
                if delivery.line["client"] == line["client"]:
                    delivery.end_by(line)
        elif line["f"] in ("ack", "nack", "extend"):
            delivery = by_receipt[line["receipt"]]
            if line["out"] == "stale" and line["end"] < delivery.free_from and \
                    delivery.let_go == NEVER:
                wrong.append(f"{line['f']} refused while hidden: {brief(line)}")
            if line["f"] == "extend":
                delivery.extend(line)
            elif line["out"] in ("ok", "unknown"):
                delivery.end_by(line)
    return deliveries


def check_repeats(deliveries, wrong):
    """Deliveries of one message: not after an ack, not before the other was let go."""
    deliveries = sorted(deliveries, key=lambda d: (d.attempt or 0, d.end))
    for number, first in enumerate(deliveries):
        for later in deliveries[number + 1:]:
            shown = f"{first.id}: {brief(first.line)} {brief(later.line)}"
            if first.is_acked_before(later) or later.is_acked_before(first):
                wrong.append(f"delivered after its ack: {shown}")
            elif first.attempt is not None and first.attempt == later.attempt:
                wrong.append(f"one attempt twice: {shown}")
            elif later.end < first.free_from:
                wrong.append(f"delivered while hidden: {shown}")
            if first.attempt is not None and first.acked is not None and \
                    later.end < first.acked["start"]:
                wrong.append(f"an outdated delivery was acked: {shown}")


def check_group(key, publishes, deliveries, wrong):
    """One ordering group: in the order of publishing, one in flight at a time."""
    done, first, of = {}, {}, collections.defaultdict(list)
    for delivery in deliveries:
        of[delivery.id].append(delivery)
    for name, some in of.items():
        done[name] = min(d.done for d in some)
        first[name] = min(d.end for d in some)
    known = [line for line in publishes if line["out"] == "ok"]
    for later in publishes:
        if later["id"] not in first:
            continue
        for before in known:
            if before["end"] < later["start"] and \
                    first[later["id"]] < done.get(before["id"], NEVER):
                wrong.append(f"group {key}: {later['id']} was delivered before {before['id']} was "
                             f"done: {brief(before)} {brief(later)}")
    for one in deliveries:
        for other in deliveries:
            if one.id != other.id and one.end < other.start and other.end < one.free_from:
                wrong.append(f"group {key}: two in flight: {one.id} {brief(one.line)} "
                             f"{other.id} {brief(other.line)}")


def check_queues(lines):
    """Nothing lost, nothing invented, nothing twice without a reason, groups in order."""
    wrong = []
    for res, some in by_resource(lines, "queue").items():
        found = []
        publishes = {line["id"]: line for line in some
                     if line["f"] == "publish" and line["out"] in ("ok", "unknown")}
        deliveries = follow_deliveries(some, found)
        of = collections.defaultdict(list)
        for delivery in deliveries:
            of[delivery.id].append(delivery)
            origin = publishes.get(delivery.id)
            if origin is None or delivery.end < origin["start"]:
                found.append(f"never published: {delivery.id} {brief(delivery.line)}")
        for message in of.values():
            check_repeats(message, found)
        groups = collections.defaultdict(list)
        for delivery in deliveries:
            if delivery.key is not None:
                groups[delivery.key].append(delivery)
        for key, group in groups.items():
            check_group(key, [line for line in publishes.values() if line.get("key") == key],
                        group, found)
        if any(line["f"] == "drained" for line in some):
            gone = {line["id"] for line in some if line["f"] in ("deadletter", "purged")}
            for line in publishes.values():
                if line["out"] != "ok" or line.get("ttl_ms") or line["id"] in gone:
                    continue
                if line["id"] not in of:
                    found.append(f"lost: {brief(line)}")
                elif all(d.done == NEVER for d in of[line["id"]]):
                    found.append(f"never acked: {brief(line)}")
        wrong += [f"queue {res}: {text}" for text in found]
    return wrong


def check_ids(lines):
    """The server's id of a message is that of no other, also where messages were lost."""
    wrong, names = [], {}
    for line in sorted(lines, key=lambda line: line["start"]):
        if line["type"] != "queue":
            continue
        seen = [(m.get("message"), m["id"]) for m in line.get("msgs", [])]
        if line["f"] == "publish" and line["out"] == "ok":
            seen.append((line.get("message"), line["id"]))
        for message, name in seen:
            if message is not None and names.setdefault(message, name) != name:
                wrong.append(f"queue {line['res']}: {message} is {names[message]} and {name}: "
                             f"{brief(line)}")
    return wrong


# Registers

REFUSED = object()
STATES_MAX = 400_000


def step(op, state):
    """What op makes of (value, version), REFUSED if it can not have happened there."""
    f, out = op["f"], op["out"]
    value, ver = state
    if f == "get":
        is_same = value is None if op.get("absent") else \
            value == op["value"] and ver in (op.get("ver", ver), None)
        return state if is_same else REFUSED
    if f == "delete":
        if out == "absent":
            return state if value is None else REFUSED
        return (None, None) if value is not None else REFUSED
    if f == "add":
        if out == "exists":
            return state if value is not None else REFUSED
        if value is not None:
            return REFUSED
    if f == "cas":
        is_expected = ver == op["expect_ver"] if "expect_ver" in op else value == op["expect"]
        if out == "mismatch":
            return REFUSED if is_expected else state
        if not is_expected:
            return REFUSED
    return op["value"], op.get("ver")


def is_linearizable(ops, initial=(None, None)):
    """Wing and Gong's search with Lowe's memory of (what is done, state). Unknown ops end never and
    need not happen. None: too much to search."""
    ops = sorted(ops, key=lambda op: op["start"])
    starts = [op["start"] for op in ops]
    ends = [NEVER if op["out"] == "unknown" else op["end"] for op in ops]
    must = sum(1 << n for n, end in enumerate(ends) if end != NEVER)
    stack, seen = [(0, initial)], set()
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        bound = NEVER
        for n, op in enumerate(ops):
            if starts[n] > bound:
                break
            if not done >> n & 1:
                bound = min(bound, ends[n])
        for n, op in enumerate(ops):
            if starts[n] > bound:
                break
            if done >> n & 1:
                continue
            after = step(op, state)
            key = (done | 1 << n, after)
            if after is not REFUSED and key not in seen:
                seen.add(key)
                stack.append(key)
        if len(seen) > STATES_MAX:
            return None
    return False


def settle_versions(ops, wrong):
    """Gives unknown writes the version with which their value was seen; a value has one version."""
    versions = {}
    for op in ops:
        if op["out"] == "ok" and op.get("ver") is not None and "value" in op:
            if versions.setdefault(op["value"], op["ver"]) != op["ver"]:
                wrong.append(f"two versions of one value: {brief(op)} {versions[op['value']]}")
    seen = {op["value"] for op in ops if op["f"] == "get" and "value" in op}
    only_writes = all(op["f"] in ("get", "put") for op in ops)
    kept = []
    for op in ops:
        if op["out"] == "unknown" and op["f"] != "delete":
            if op["value"] in versions:
                op = {**op, "ver": versions[op["value"]]}
            elif only_writes and op["value"] not in seen:
                continue  # nobody saw it, and nothing depends on it
        kept.append(op)
    return kept


def check_client_reads(ops, wrong):
    """Reads at a position or from a near cache: written by someone, never older than what the
    client has seen, and near ones no staler than their bound."""
    deletes = any(op["f"] == "delete" and op["out"] != "fail" for op in ops)
    written = {op["value"]: op["start"] for op in ops
               if op["f"] in ("put", "add", "cas") and op["out"] in ("ok", "unknown")}
    seen = {}
    writes = [op for op in ops if op["out"] == "ok" and op["f"] in ("put", "add", "cas")]
    for op in sorted(ops, key=lambda op: op["start"]):
        if op["out"] != "ok" or op["f"] == "delete":
            continue
        last = seen.get(op["client"])
        if op.get("mode") is not None:
            if not op.get("absent") and written.get(op["value"], NEVER) > op["end"]:
                wrong.append(f"nobody wrote it: {brief(op)}")
            bound = op["start"] - op.get("bound_ms", NEVER) * MS
            old = max((w["ver"] for w in writes if w["end"] < bound), default=0)
            if op.get("ver", NEVER) < old or (op.get("absent") and old and not deletes):
                wrong.append(f"staler than its bound: {brief(op)} {old}")
        if last is not None and (op["ver"] < last["ver"] if "ver" in op else not deletes):
            wrong.append(f"went back: {brief(last)} {brief(op)}")
        if "ver" in op:
            seen[op["client"]] = op
    return wrong


def check_registers(lines):
    """Linearizable key by key; reads with a mode never go back."""
    wrong = []
    for res, ops in by_resource(lines, "reg").items():
        found = []
        check_client_reads(ops, found)
        plain = [op for op in ops if op.get("mode") is None and op["out"] != "fail" and
                 not (op["f"] == "get" and op["out"] == "unknown")]
        plain = settle_versions(plain, found)
        known = [op for op in plain if op["out"] == "ok" and op.get("ver") is not None]
        for before, after in rising(known, lambda op: op["ver"], lambda op: op["f"] != "get"):
            found.append(f"version not higher: {brief(before)} {brief(after)}")
        verdict = is_linearizable(plain)
        if verdict is None:
            found.append(f"too much to search: {len(plain)} calls")
        elif not verdict:
            found.append("not linearizable: " + " ".join(brief(op) for op in plain))
        wrong += [f"register {res}: {text}" for text in found]
    return wrong


def check_counters(lines):
    """Each ok addition of 1 counted once, each unknown one at most once; one that is sent again under
    its number gets its first answer."""
    wrong = []
    for res, ops in by_resource(lines, "counter").items():
        adds = [op for op in ops if op["f"] == "add"]
        known = [op for op in adds if op["out"] == "ok"]
        values = [op["value"] for op in known]
        if len(values) != len(set(values)):
            wrong.append(f"counter {res}: one value given twice")
        for before, after in rising(known, lambda op: op["value"], lambda _: True):
            wrong.append(f"counter {res}: went back: {brief(before)} {brief(after)}")
        most = len(known) + sum(op["out"] == "unknown" for op in adds)
        for op in ops:
            if op["f"] == "again" and op["out"] == "ok" and op["value"] != op["of"]:
                wrong.append(f"counter {res}: another answer to a repeat: {brief(op)}")
            if op["f"] == "final" and not len(known) <= op["value"] <= most:
                wrong.append(f"counter {res}: {op['value']} after {len(known)} to {most} additions")
    return wrong


# Consensus and the run itself


def check_leaders(lines):
    """One leader a term and group, by what nodes said of themselves."""
    wrong = []
    leaders = {}
    for line in lines:
        if line["type"] == "raft" and line["f"] == "leader":
            node = leaders.setdefault((line["res"], line["term"]), line["node"])
            if node != line["node"]:
                wrong.append(f"group {line['res']}: {node} and {line['node']} led "
                             f"term {line['term']}")
    return wrong


CALLS = ("lock", "queue", "reg", "counter")
ANSWERS = ("ok", "conflict", "not_held", "empty", "stale", "exists", "absent", "mismatch")


def summary(lines):
    """Figures of a run: calls, answered ones, unknown ones, faults, the longest silence."""
    notes = [line for line in lines if line["type"] == "note"]
    calls = [line for line in lines if line["type"] in CALLS and "out" in line and
             "end" in line]
    first = min((note["start"] for note in notes), default=NEVER)
    last = max((note["start"] for note in notes), default=0)
    meanwhile = [line for line in calls if first <= line["start"] <= last]
    ends = sorted(line["end"] for line in meanwhile if line["out"] in ANSWERS)
    silence = max((b - a for a, b in zip(ends, ends[1:])), default=0)
    answered = len(ends) / len(meanwhile) if meanwhile else 0.0
    return {"calls": len(calls), "meanwhile": len(meanwhile), "answered": round(answered, 3),
            "unknown": sum(line["out"] == "unknown" for line in calls),
            "fail": sum(line["out"] == "fail" for line in calls),
            "faults": sum(not note["what"].startswith("heal") for note in notes),
            "silence_s": round(silence / 1e9, 2)}


def check_run(lines, share=0.2, faults=1, calls=100):
    """Faults did happen, and clients got answers meanwhile."""
    wrong = []
    figures = summary(lines)
    if figures["faults"] < faults:
        wrong.append(f"run: {figures['faults']} faults, {faults} wanted")
    if figures["meanwhile"] < calls:
        wrong.append(f"run: only {figures['meanwhile']} calls under faults")
    if figures["answered"] < share:
        wrong.append(f"run: only {figures['answered']:.0%} of the calls were answered")
    return wrong


def check_all(lines):
    return [text for check in (check_locks, check_queues, check_ids, check_registers,
                               check_counters, check_leaders) for text in check(lines)]
