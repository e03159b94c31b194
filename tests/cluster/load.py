"""Clients of a cluster under faults: each call becomes one line of a history.

A Caller is one client: it has an id, numbers its calls, speaks RPC or HTTP to one node at a time
and moves on when that fails. The workers below are threads that use locks, queues and caches the
way applications do, and say only what they saw."""

import http.client
import json
import random
import threading
import time

from rukun_cluster import SLOW, Rpc, RpcError, wait_until

MS = 1_000_000
KEY_CALLS = 40  # calls on one key before it is left for a new one: short histories decide fast
CONNECT_S = 1.0
ANSWER_S = 3.0
DEADLINE_MS = 2000


# Answers that no fault explains: the call, the node or the promise is wrong.
WRONG = ("invalid", "out_of_bounds", "protocol", "too_large", "unsupported", "corrupt")


class Result:
    """How a call ended: out is ok, unknown, fail (no effect) or refused (see code)."""

    def __init__(self, start, out, data=None, code=""):
        self.start, self.end = start, time.monotonic_ns()
        self.out, self.data, self.code = out, data or {}, code

    def out_as(self, **names):
        """The history's word: names maps words to codes of problems."""
        if self.out != "refused":
            return self.out
        assert self.code not in WRONG, self.data
        return next((word for word, codes in names.items() if self.code in codes), "fail")


class Caller:
    def __init__(self, cluster, recorder, name, way="rpc", attempts=1, at=0):
        self.cluster, self.recorder, self.name = cluster, recorder, name
        self.way, self.attempts, self.at = way, attempts, at
        self.seq = 0
        self.connection = None
        self.position = None
        self.last = None  # the request of the last call
        self.late = []  # deliveries to be acked when they are outdated
        self.is_consumer = False

    def close(self):
        if self.connection is None:
            return
        if self.is_consumer:
            now = time.monotonic_ns()
            for topic in self.topics:
                self.recorder.add(type="queue", f="disconnect", res=topic, client=self.name,
                                  start=now, end=now, out="ok")
        self.connection.close()
        self.connection = None

    def move_on(self):
        self.close()
        self.at += 1

    def connect(self):
        node = self.cluster.nodes[self.at % len(self.cluster.nodes)]
        if self.way == "rpc":
            self.connection = Rpc(node.rpc, timeout=CONNECT_S)
            self.connection.sock.settimeout(ANSWER_S * SLOW)
        else:
            host, port = node.http.rsplit(":", 1)
            connection = http.client.HTTPConnection(host, int(port), timeout=CONNECT_S * SLOW)
            connection.connect()
            connection.sock.settimeout(ANSWER_S * SLOW)
            self.connection = connection

    def exchange(self, method, fields, extra):
        if self.way == "rpc":
            return self.connection.call(method, **fields, **extra)
        headers = {"Content-Type": "application/json",
                   "Idempotency-Key": f"{extra['client']}/{extra['seq']}",
                   "Rukun-Deadline-Ms": str(extra["deadline_ms"])}
        if "position" in extra:
            headers["Rukun-Position"] = extra["position"]
        self.connection.request("POST", "/" + method.replace(".", "/"),
                                json.dumps(fields).encode(), headers)
        answer = self.connection.getresponse()
        data = json.loads(answer.read())
        if answer.headers.get("Rukun-Position"):
            data["position"] = answer.headers["Rukun-Position"]
        if answer.status >= 400:
            raise RpcError(data)
        return data

    def attempt(self, method, fields, extra):
        start = time.monotonic_ns()
        if self.connection is None:
            try:
                self.connect()
            except (OSError, RpcError, http.client.HTTPException):
                self.move_on()
                return Result(start, "fail")
        try:
            return Result(start, "ok", self.exchange(method, fields, extra))
        except RpcError as error:
            code = error.code
            if error.problem.get("outcome") != "unknown":
                if code in ("unavailable", "not_leader", "dropped", "busy"):
                    self.move_on()
                return Result(start, "refused", error.problem, code)
            self.move_on()
            return Result(start, "unknown", error.problem, code)
        except (OSError, http.client.HTTPException, ValueError):
            self.move_on()
            return Result(start, "unknown")

    def call(self, method, position=None, **fields):
        """One call; with attempts above 1 it is repeated under the same number while its outcome
        is open, as a client library does."""
        self.seq += 1
        extra = {"client": self.name, "seq": self.seq, "first_unanswered": self.seq,
                 "deadline_ms": int((DEADLINE_MS + fields.get("wait_ms", 0)) * SLOW)}
        if position is not None:
            extra["position"] = position
        self.last = method, fields, extra
        start, is_open, result = None, False, None
        for _ in range(self.attempts):
            result = self.attempt(method, fields, extra)
            start = start or result.start
            retryable = result.out in ("fail", "unknown") or result.data.get("retryable") and \
                result.code in ("unavailable", "not_leader", "dropped", "busy")
            if not retryable:
                break
            is_open = is_open or result.out == "unknown"
            time.sleep(0.05)
        result.start = start
        if is_open and result.out_as() == "fail" and result.code in (
                "", "unavailable", "not_leader", "dropped", "busy", "full"):
            result.out = "unknown"  # one of the earlier attempts may yet have worked
        if result.out in ("fail", "unknown"):
            time.sleep(0.02)
        return result

    def again(self):
        """The last call once more, under its number, at another node."""
        self.move_on()
        return self.attempt(*self.last)

    def write(self, result, kind, f, res, out, **fields):
        if out in ("fail", "unknown") and result.code:
            fields["why"] = f"{result.code}: {result.data.get('detail')}"
        self.recorder.add(type=kind, f=f, res=res, client=self.name, start=result.start,
                          end=result.end, out=out, **fields)
        return out


class Load:
    """The threads of a run."""

    def __init__(self, cluster, recorder, seed=1):
        self.cluster, self.recorder, self.seed = cluster, recorder, seed
        self.is_over = threading.Event()
        self.threads, self.errors, self.callers = [], [], []

    def caller(self, name, **options):
        caller = Caller(self.cluster, self.recorder, f"{name}-{self.seed}", at=len(self.callers),
                        **options)
        self.callers.append(caller)
        return caller

    def start(self, worker, caller, *arguments):
        rng = random.Random(f"{self.seed}/{caller.name}")

        def run():
            try:
                while not self.is_over.is_set():
                    worker(caller, rng, *arguments)
            except Exception as error:  # pylint: disable=broad-except
                self.errors.append(error)
                raise
            finally:
                caller.close()

        thread = threading.Thread(target=run, name=caller.name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def stop(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join(60 * SLOW)
            assert not thread.is_alive(), f"{thread.name} hangs"
        if self.errors:
            raise self.errors[0]

    def pause(self, seconds):
        self.is_over.wait(seconds)


# Locks

LOCK_REFUSED = {"conflict": ("held", "wait_timeout", "deadlock", "cancelled"),
                "not_held": ("not_owner", "session_expired")}


def lock_worker(caller, rng, resources):
    """One lock under an owner of its own: taken, perhaps renewed and looked at, mostly given back."""
    res, mode = rng.choice(resources), rng.choice("xxs")
    owner = f"{caller.name}.{caller.seq}"
    lease_ms = rng.choice((800, 1500, 3000))
    same = {"resource": res, "owner": owner}
    result = caller.call("lock.acquire", mode={"x": "exclusive", "s": "shared"}[mode],
                         lease_ms=lease_ms, wait_ms=rng.choice((0, 0, 100, 400)), **same)
    out = result.out_as(**LOCK_REFUSED)
    fields = {"token": result.data["fence"]} if out == "ok" else {}
    caller.write(result, "lock", "acquire", res, out, owner=owner, mode=mode, lease_ms=lease_ms,
                 **fields)
    if out == "unknown" and rng.random() < 0.5:
        return lock_release(caller, same, {})
    if out != "ok":
        return time.sleep(rng.uniform(0, 0.03))
    same["fence"] = fields["token"]
    for _ in range(rng.randrange(3)):
        time.sleep(rng.uniform(0, 0.03))
        if rng.random() < 0.5:
            result = caller.call("lock.renew", lease_ms=1500, **same)
            caller.write(result, "lock", "renew", res, result.out_as(**LOCK_REFUSED), owner=owner,
                         lease_ms=1500, **fields)
        else:
            result = caller.call("lock.check", **same)
            caller.write(result, "lock", "status", res, result.out_as(), owner=owner,
                         held=result.data.get("held"), **fields)
    if rng.random() < 0.95:
        lock_release(caller, same, fields)
    return None


def lock_release(caller, same, fields):
    result = caller.call("lock.release", **same)
    caller.write(result, "lock", "release", same["resource"], result.out_as(**LOCK_REFUSED),
                 owner=same["owner"], **fields)


def session_worker(caller, rng, resources, ttl_ms=2500):
    """One session: several locks that its keepalives hold, then its end."""
    result = caller.call("session.open", ttl_ms=ttl_ms)
    if result.out != "ok":
        return
    session, alive = result.data["session"], result.start
    owner, held = f"{caller.name}.{caller.seq}", {}
    until = time.monotonic() + rng.uniform(0.5, 4)
    while time.monotonic() < until:
        res = rng.choice(resources)
        if res not in held:
            result = caller.call("lock.acquire", resource=res, owner=owner, session=session,
                                 wait_ms=rng.choice((0, 100)))
            out = result.out_as(**LOCK_REFUSED)
            fields = {"token": result.data["fence"]} if out == "ok" else {}
            caller.write(result, "lock", "acquire", res, out if out != "not_held" else "fail",
                         owner=owner, mode="x", lease_ms=ttl_ms, lease_from=alive, **fields)
            if out == "ok":
                held[res] = fields["token"]
        else:
            same = {"resource": res, "owner": owner, "session": session, "fence": held.pop(res)}
            fence = same["fence"]
            lock_release(caller, same, {"token": fence})
        result = caller.call("session.keepalive", session=session)
        out = result.out_as(**LOCK_REFUSED)
        if out == "ok":
            alive = result.start
        for res, token in held.items():
            caller.write(result, "lock", "renew", res, out, owner=owner, token=token,
                         lease_ms=ttl_ms)
        if out == "not_held":
            return
        time.sleep(rng.uniform(0, 0.05))
    result = caller.call("session.close", session=session)
    caller.write(result, "lock", "session_end", "", result.out_as(not_held=("session_expired",)),
                 owner=owner)


# Queues

VISIBILITY_MS = 1500


def configure_topics(cluster, topics):
    """Retries are quick and never end, so that a drain is short and nothing becomes a dead letter."""
    for topic in topics:
        wait_until(lambda name=topic: cluster.nodes[0].post("/queue/configure", {
            "topic": name, "deliveries_max": 100000, "retry_ms": 50,
            "retry_max_ms": 100}).status == 200, 20, f"{topic} is configured")


def producer_worker(caller, rng, topics, pause):
    topic, key = rng.choice(topics), rng.choice((None, "g1", "g2"))
    name = f"{caller.name}.{caller.seq}"
    fields = {"topic": topic, "data": {"id": name, "key": key}}
    if key is not None:
        fields["group"] = f"{key}/{caller.name}"
    if rng.random() < 0.3:
        fields["publish_id"] = name
    result = caller.call("queue.publish", **fields)
    caller.write(result, "queue", "publish", topic, result.out_as(), id=name,
                 key=fields.get("group"), message=result.data.get("id"))
    time.sleep(rng.uniform(0, pause))


def note_messages(caller, result, topic, timeout_ms):
    msgs = [{"id": m["message"]["id"], "key": m.get("group"), "receipt": m["id"],
             "attempt": m["attempt"], "message": m["message_id"]}
            for m in result.data.get("messages", [])]
    out = result.out_as()
    if out == "ok" and not msgs:
        out = "empty"
    caller.write(result, "queue", "consume", topic, out, msgs=msgs, timeout_ms=timeout_ms)
    return msgs


QUEUE_REFUSED = {"stale": ("stale_delivery", "gone", "not_found")}


def settle(caller, topic, message, f, **fields):
    result = caller.call(f"queue.{f}", id=message["receipt"], topic=topic, **fields)
    timeout = {"timeout_ms": fields["visibility_ms"]} if f == "extend" else {}
    caller.write(result, "queue", f, topic, result.out_as(**QUEUE_REFUSED), id=message["id"],
                 receipt=message["receipt"], **timeout)


def late_acks(caller):
    """Acks of deliveries that others may have got meanwhile, and then are refused."""
    for entry in [entry for entry in caller.late if entry[0] < time.monotonic()]:
        caller.late.remove(entry)
        settle(caller, *entry[1:], "ack")


def consumer_worker(caller, rng, topics):
    caller.is_consumer, caller.topics = True, topics
    late_acks(caller)
    topic = rng.choice(topics)
    result = caller.call("queue.consume", topic=topic, max=rng.choice((1, 2, 5)),
                         wait_ms=rng.choice((0, 100, 300)), visibility_ms=VISIBILITY_MS)
    for message in note_messages(caller, result, topic, VISIBILITY_MS):
        dice = rng.random()
        if dice < 0.05:
            settle(caller, topic, message, "nack", delay_ms=rng.choice((0, 50)))
        elif dice < 0.08:
            until = time.monotonic() + VISIBILITY_MS / 1000 + rng.uniform(0, 0.3)
            caller.late.append((until, topic, message))
        elif message["attempt"] > 1 and dice < 0.6:
            caller.late.append((time.monotonic() + 0.5, topic, message))
        else:
            if dice < 0.14:
                settle(caller, topic, message, "extend", visibility_ms=VISIBILITY_MS)
            settle(caller, topic, message, "ack")
    if rng.random() < 0.005:
        caller.move_on()


def drain(caller, topics, timeout=40.0):
    """After healing: all that is there is consumed and acked."""
    caller.is_consumer, caller.topics = True, topics
    for topic in topics:
        end = time.monotonic() + timeout * SLOW
        while True:
            assert time.monotonic() < end, f"{topic} is not empty after {timeout} s"
            result = caller.call("queue.consume", topic=topic, max=100, wait_ms=0,
                                 visibility_ms=VISIBILITY_MS)
            msgs = note_messages(caller, result, topic, VISIBILITY_MS)
            for message in msgs:
                settle(caller, topic, message, "ack")
            if msgs or result.out != "ok":
                continue
            left = caller.call("queue.info", topic=topic)
            if left.out == "ok" and not any(left.data[n] for n in ("ready", "delayed", "in_flight")):
                assert left.data["dead"] == 0, f"{topic} has dead letters"
                break
            time.sleep(0.1)
        now = time.monotonic_ns()
        caller.recorder.add(type="queue", f="drained", res=topic, client=caller.name, start=now,
                            end=now, out="ok")


# Caches


class Keys:
    """Names that change after KEY_CALLS calls."""

    def __init__(self, prefix, count):
        self.prefix, self.calls = prefix, [0] * count
        self.mutex = threading.Lock()

    def pick(self, rng):
        with self.mutex:
            number = rng.randrange(len(self.calls))
            self.calls[number] += 1
            return f"{self.prefix}{number}.{self.calls[number] // KEY_CALLS}"


def get(caller, key, mode=None):
    result = caller.call("cache.get", key=key, position=caller.position if mode else None)
    out, fields = result.out_as(), {"mode": mode} if mode else {}
    if out == "ok" and result.data["found"]:
        fields.update(value=result.data["value"], ver=result.data["version"])
    elif out == "ok":
        fields["absent"] = True
    caller.write(result, "reg", "get", key, out, **fields)
    return result


def put(caller, key, f, value, **condition):
    """put, add or cas."""
    fields = {"if_absent": True} if f == "add" else {}
    if f == "cas":
        fields["if_version"] = condition["expect_ver"]
    result = caller.call("cache.put", key=key, value=value, **fields)
    refused = ("exists", "version_mismatch")
    out = result.out_as(**{"exists" if f == "add" else "mismatch": refused})
    ver = {"ver": result.data["version"]} if out == "ok" else {}
    caller.write(result, "reg", f, key, out, value=value, **ver, **condition)
    return result


def register_worker(caller, rng, keys, seen):
    """seen: the versions this client knows, by key."""
    key, value = keys.pick(rng), f"{caller.name}.{caller.seq}"
    dice = rng.random()
    if dice < 0.4:
        result = get(caller, key)
    elif dice < 0.65:
        result = put(caller, key, "put", value)
    elif dice < 0.85 and key in seen:
        result = put(caller, key, "cas", value, expect_ver=seen[key])
    elif dice < 0.93:
        result = put(caller, key, "add", value)
    else:
        result = caller.call("cache.delete", key=key)
        out = result.out_as()
        if out == "ok" and not result.data["deleted"]:
            out = "absent"
        caller.write(result, "reg", "delete", key, out)
        seen.pop(key, None)
        return
    if result.out == "ok" and result.data.get("version"):
        seen[key] = result.data["version"]
    time.sleep(rng.uniform(0, 0.01))


def merge_position(old, new):
    """What a client has seen: the highest index of each group."""
    if not old or not new or old.split(":")[0] != new.split(":")[0]:
        return new or old
    parts = [dict(part.split("=") for part in text.split(":")[1].split(",")) for text in (old, new)]
    best = {group: max(int(part.get(group, 0)) for part in parts)
            for group in sorted({**parts[0], **parts[1]}, key=int)}
    return old.split(":")[0] + ":" + ",".join(f"{g}={i}" for g, i in best.items())


def position_worker(caller, rng, keys):
    """Writes and reads at any node, each read with the position of what was seen."""
    key = keys.pick(rng)
    if rng.random() < 0.3:
        result = put(caller, key, "put", f"{caller.name}.{caller.seq}")
    else:
        result = get(caller, key, "position")
    caller.position = merge_position(caller.position, result.data.get("position"))
    if rng.random() < 0.2:
        caller.move_on()
    time.sleep(rng.uniform(0, 0.01))


def counter_worker(caller, rng, names):
    name = rng.choice(names)
    result = caller.call("cache.add", key=name, delta=1)
    out, value = result.out_as(), result.data.get("value")
    caller.write(result, "counter", "add", name, out, value=value)
    if out == "ok" and rng.random() < 0.3:
        result = caller.again()
        caller.write(result, "counter", "again", name, result.out_as(), of=value,
                     value=result.data.get("value"))
    time.sleep(rng.uniform(0, 0.03))


def read_counters(caller, names):
    for name in names:
        result = caller.call("cache.get", key=name)
        assert result.out == "ok", f"{name}: {result.out} {result.code}"
        caller.write(result, "counter", "final", name, "ok", value=result.data.get("value", 0))


# What nodes say of themselves


def watch_leaders(cluster, recorder, load, pause=0.2):
    """A thread that asks every node who it is; a paused or dead one answers nothing."""
    known = set()

    def look():
        for node in cluster.nodes:
            start = time.monotonic_ns()
            try:
                answer = node.get("/raft/state", timeout=0.3)
                groups = answer.data["groups"] if answer.status == 200 else []
            except (OSError, ValueError, KeyError, http.client.HTTPException):
                continue
            for group in groups:
                line = (node.name, group["id"], group["term"])
                if group["role"] == "leader" and line not in known:
                    known.add(line)
                    recorder.add(type="raft", f="leader", res=group["id"], node=node.name,
                                 term=group["term"], start=start)

    def run():
        while not load.is_over.is_set():
            look()
            load.pause(pause)

    thread = threading.Thread(target=run, name="watch", daemon=True)
    load.threads.append(thread)
    thread.start()
