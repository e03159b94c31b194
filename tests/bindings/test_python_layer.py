"""What the Python layer does by itself, against a node that answers as told."""

import inspect
import json
import pathlib
import re
import threading
import time

import msgpack
import pytest
import rukun
from fake_node import SILENCE, FakeNode, Problem
from rukun import _rukun, errors, values

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = (ROOT / "clients/c/include/rukun.h").read_text()


# --- tables against the header

def test_every_status_has_a_class_and_every_class_a_status():
    names = set(re.findall(r"RUKUN_(E[A-Z]+) = -\d+", HEADER))
    assert len(names) > 30
    wire = {_rukun.status_name(getattr(_rukun, name)) for name in names}
    assert wire == set(errors._by_code)
    for kind in errors._by_code.values():
        assert getattr(rukun, kind.__name__) is kind and kind.__name__ in rukun.__all__
    assert {name for name in dir(_rukun) if re.fullmatch("E[A-Z]+", name)} - {"EXCLUSIVE"} == \
        names


def test_every_option_of_the_header_is_in_a_table():
    tables = (ROOT / "bindings/options.h").read_text()
    # Those that the bindings set themselves, or that have no meaning for them.
    own = {"struct_size", "interrupted", "context", "values", "mode"}
    for owner in ("options", "lock_opts", "publish_opts", "consume_opts", "put_opts"):
        body = re.search(rf"typedef struct rukun_{owner} {{(.*?)\n}}", HEADER, re.DOTALL)
        plain = re.sub(r"/\*.*?\*/", "", body.group(1), flags=re.DOTALL)
        members = set(re.findall(r"\*?(\w+);", plain)) - own
        assert members, owner
        for member in members:
            assert f"OPTION(rukun_{owner}, {member}," in tables, f"rukun_{owner}.{member}"


def test_private_module_refuses_what_does_not_fit(node):
    for wrong in ({"endpoint": "x"}, {"endpoints": 3}, {"endpoints": "a\0b"}, "x",
                  {"deadline_ms": -1}, {"deadline_ms": 1.5}, {"deadline_ms": 1 << 64}):
        with pytest.raises((TypeError, ValueError)):
            _rukun.client_open(wrong)
    handle = _rukun.client_open({"endpoints": node.address})
    with pytest.raises(AttributeError):
        handle.naem = 1
    with pytest.raises(TypeError):
        _rukun.queue_ack(handle, b"bytes")
    with pytest.raises(TypeError):
        _rukun.queue_publish(handle, "t", ("text", 1), None)
    with pytest.raises(TypeError):
        _rukun.lock_acquire(None, "a")
    with pytest.raises(rukun.Invalid):
        _rukun.lock_acquire(None, "a", None)


# --- values and durations

@pytest.mark.parametrize("value", [None, True, 1, -1, 1 << 53, 1.5, "", "grüße\n", [], [1, [2]],
                                   {}, {"a": {"b": [None]}}, b"", b"\0\xff"])
def test_values_come_back_as_they_went(value):
    assert values.decode(*values.encode(value)) == value


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object(), "\ud800"])
def test_what_has_no_form_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        values.encode(value)


@pytest.mark.parametrize("value", [
    None, True, False, 0, 127, 128, 255, 256, 65535, 65536, 1 << 32, (1 << 64) - 1, -1, -32,
    -33, -128, -129, -32769, -(1 << 31) - 1, -(1 << 63), 1.5, "", "a" * 31, "a" * 32,
    "a" * 300, "ü" * 40000, b"", b"x" * 300, b"x" * 70000, [], list(range(20)),
    list(range(70000)), {}, {str(i): [i] for i in range(20)}, {"a": {"b": {"c": None}}},
    {str(i): i for i in range(70000)}])
def test_reads_msgpack_of_others(value):
    assert values.decode(msgpack.packb(value), _rukun.MSGPACK) == value


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\xa5abc", b"\xdd\xff\xff\xff\xff",
                                  b"\x01\x02", b"\xcf\0", b"\x91" * 500, b"\xc7\x01\x01a"])
def test_refuses_what_is_no_msgpack(data):
    with pytest.raises(ValueError):
        values.decode(data, _rukun.MSGPACK)


def test_durations():
    assert values.milliseconds(0, "x") == 0
    assert values.milliseconds(0.0001, "x") == 1
    assert values.milliseconds(1.1, "x") == 1100
    assert values.milliseconds(2, "x") == 2000
    assert values.wait_milliseconds(None) is None
    assert values.wait_milliseconds(float("inf")) is None
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError):
            values.milliseconds(wrong, "x")
    for wrong in ("1", True, None):
        with pytest.raises(TypeError):
            values.milliseconds(wrong, "x")


# --- errors

def test_error_carries_everything(node, client):
    def refuse(fields):
        raise Problem("out_of_bounds", 422, detail="ttl_ms: 9 is not in 10..20", field="ttl_ms")
    node.answers["cache.touch"] = refuse
    with pytest.raises(rukun.OutOfBounds) as caught:
        client.cache().touch("k", 1)
    error = caught.value
    assert isinstance(error, rukun.Error)
    assert error.code == "out_of_bounds" and error.field == "ttl_ms" and error.node == "n1"
    assert error.outcome == "not_done" and not error.retryable and error.request_id > 0
    assert "ttl_ms" in str(error)


def test_retry_after_is_seconds(node, client):
    def refuse(fields):
        raise Problem("held", holders=[], retry_after_ms=1500, retryable=True)
    node.answers["lock.acquire"] = refuse
    with pytest.raises(rukun.LockHeld) as caught:
        client.lock("a", wait=0).acquire()
    assert caught.value.retry_after == 1.5 and caught.value.retryable


def test_no_endpoint():
    began = time.monotonic()
    with pytest.raises(rukun.CannotConnect) as caught:
        rukun.Client("127.0.0.1:1", deadline=0.3)
    assert "127.0.0.1:1" in str(caught.value)
    assert time.monotonic() - began < 3


def test_call_by_name(node, client):
    node.answers["lock.info"] = lambda fields: {"resource": fields["resource"], "holders": [],
                                                "waiters": []}
    assert client.call("lock.info", resource="a")["resource"] == "a"
    with pytest.raises(rukun.NotFound):
        client.call("lock.invent")
    with pytest.raises(rukun.Error) as caught:
        client.call("lock.info", resorce="a")
    assert caught.value.field == "resorce" or "resorce" in str(caught.value)
    assert client.cluster()["cluster"] == "fake"


def test_closed_client(node):
    client = rukun.Client(node.address)
    client.close()
    client.close()
    with pytest.raises(rukun.Closed):
        client.cache().get("k")


# --- locks

def test_lock_as_context_manager(node, client):
    node.answers["lock.acquire"] = node.grant
    lock = client.lock("a", wait=5, shared=True, priority=3, min_hold=1.5)
    assert lock.state == "released" and lock.left == 0
    with lock as held:
        assert held is lock and lock.state == "safe" and 0 < lock.left <= 10
        first = lock.fence
        lock.check()
        with pytest.raises(rukun.Invalid):
            lock.acquire()
    fields = node.asked("lock.acquire")[0]
    assert fields["resource"] == "a" and 3000 < fields["wait_ms"] <= 5000
    assert fields["mode"] == "shared" and fields["priority"] == 3
    assert fields["min_hold_ms"] == 1500 and fields["session"] == "s1"
    released = node.asked("lock.release")[0]
    assert released["owner"] == fields["owner"] == lock.owner
    assert released["fence"] == first
    assert lock.state == "released"
    with pytest.raises(rukun.LockLost):
        lock.check()
    with lock:
        assert lock.fence > first
    assert node.asked("lock.acquire")[1]["owner"] != fields["owner"]


def test_lock_releases_when_the_block_fails(node, client):
    node.answers["lock.acquire"] = node.grant
    with pytest.raises(KeyError):
        with client.lock("a"):
            raise KeyError("x")
    assert len(node.asked("lock.release")) == 1


def test_lost_lock_is_heard_of_at_the_end(node, client):
    node.answers["lock.acquire"] = node.grant

    def refuse(fields):
        raise Problem("not_owner")
    node.answers["lock.release"] = refuse
    with pytest.raises(rukun.LockLost):
        with client.lock("a"):
            pass
    with pytest.raises(KeyError):  # the block's own error says more
        with client.lock("a"):
            raise KeyError("x")


def test_lease_of_its_own(node, client):
    node.answers["lock.acquire"] = lambda fields: {"granted": True, "fence": 1,
                                                   "lease_ms": fields["lease_ms"]}
    lock = client.lock("a", lease=0.5).acquire()
    fields = node.asked("lock.acquire")[0]
    assert fields["lease_ms"] == 500 and "session" not in fields
    end = time.monotonic() + 5
    while lock.state != "lost":  # by this clock alone: the node says nothing
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(rukun.LockLost):
        lock.check()


def test_lock_as_decorator(node, client):
    node.answers["lock.acquire"] = node.grant

    @client.lock("a", wait=1)
    def work(x, *, y):
        """Works."""
        return x + y
    assert work(1, y=2) == 3 and work(3, y=4) == 7
    assert work.__name__ == "work" and work.__doc__ == "Works."
    assert len(node.asked("lock.acquire")) == 2 == len(node.asked("lock.release"))


def test_a_forgotten_lock_is_released(node, client):
    node.answers["lock.acquire"] = node.grant
    client.lock("a").acquire()
    node.wait_asked("lock.release")


# --- caches

def test_cache(node, client):
    cache = client.cache("c")
    node.answers |= {
        "cache.put": {"ok": True, "version": 7},
        "cache.delete": {"deleted": True, "version": 8},
        "cache.add": {"value": -(1 << 62), "version": 9},
        "cache.get": lambda fields: {"found": True, "value": [1], "version": 7}
        if fields["key"] == "k" else {"found": False},
    }
    assert cache.put("k", [1], ttl=60, soft_ttl=30, if_version=3, fence=5, fence_name="f") == 7
    fields = node.asked("cache.put")[0]
    assert fields["cache"] == "c" and fields["key"] == "k" and fields["value"] == [1]
    assert fields["ttl_ms"] == 60000 and fields["soft_ttl_ms"] == 30000
    assert fields["if_version"] == 3 and fields["fence"] == 5 and fields["fence_name"] == "f"
    assert cache.get("k") == [1] and cache.get("x") is None and cache.get("x", 3) == 3
    assert cache.entry("k") == rukun.Entry([1], 7, False) and cache.entry("x") is None
    assert cache.delete("k") is True
    assert cache.add("n", -2, initial=1 << 40) == -(1 << 62)
    assert node.asked("cache.add")[0]["initial"] == 1 << 40
    with pytest.raises(ValueError):
        cache.put("k", 1, if_version=0)


def test_get_many(node, client):
    node.answers["cache.get"] = lambda fields: {"entries": [
        {"key": "a", "found": True, "value": {"x": 1}, "version": 1},
        {"key": "b", "found": False},
        {"key": "c", "found": True, "value": b"\xff", "version": 2}]}
    assert client.cache().get_many(["a", "b", "c"]) == {"a": {"x": 1}, "c": b"\xff"}
    assert client.cache().get_many([]) == {}


class Store:
    """Answers for cache.get, cache.put and locks that exclude, in memory."""

    def __init__(self, node):
        self.values = {}
        self.held = set()
        self.lock = threading.Lock()
        node.answers |= {"cache.get": self.get, "cache.put": self.put,
                         "lock.acquire": self.acquire, "lock.release": self.release}
        self.node = node

    def get(self, fields):
        with self.lock:
            value = self.values.get(fields["key"])
        return {"found": False} if value is None else {"found": True, **value}

    def put(self, fields):
        with self.lock:
            self.values[fields["key"]] = {"value": fields["value"], "version": 1}
        return {"ok": True, "version": 1}

    def acquire(self, fields):
        end = time.monotonic() + fields.get("wait_ms", 0) / 1000
        while True:
            with self.lock:
                if fields["resource"] not in self.held:
                    self.held.add(fields["resource"])
                    return self.node.grant(fields)
            if time.monotonic() >= end:
                raise Problem("wait_timeout" if fields.get("wait_ms") else "held")
            time.sleep(0.01)

    def release(self, fields):
        with self.lock:
            self.held.discard(fields["resource"])
        return {"released": True}


def test_memoize_computes_once(node):
    store = Store(node)
    computed = []

    def make():
        client = rukun.Client(node.address)

        @client.cache().memoize(ttl=60, name="profile")
        def profile(user, *, full=False):
            computed.append((user, full))
            time.sleep(0.3)
            return {"user": user}
        return client, profile
    # One client a caller: the fake node serves a connection one call after the other.
    pairs = [make() for _ in range(4)]
    results = []
    threads = [threading.Thread(target=lambda f=f: results.append(f("ada")))
               for _, f in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"user": "ada"}] * 4
    assert computed == [("ada", False)]
    profile = pairs[0][1]
    profile("ada")
    profile("ada", full=True)
    profile("bob")
    assert computed == [("ada", False), ("ada", True), ("bob", False)]
    assert not store.held
    put = node.asked("cache.put")[0]
    assert put["ttl_ms"] == 60000 and "soft_ttl_ms" not in put
    for client, _ in pairs:
        client.close()


def test_memoize_gives_the_old_value_while_one_refreshes(node, client):
    store = Store(node)
    count = iter(range(100))

    @client.cache().memoize(ttl=60, stale=30)
    def number():
        return next(count)
    assert number() == 0
    (key,) = store.values
    assert node.asked("cache.put")[0]["ttl_ms"] == 90000
    assert node.asked("cache.put")[0]["soft_ttl_ms"] == 60000
    store.values[key]["stale"] = True
    store.held.add(node.asked("lock.acquire")[0]["resource"])  # someone else computes
    assert number() == 0
    store.held.clear()
    assert number() == 1
    assert number() == 1


def test_memoize_forgets_nothing_of_the_function(client):
    @client.cache().memoize(ttl=1)
    def documented(a: int) -> int:
        """What it does."""
        return a
    assert documented.__doc__ == "What it does."
    assert list(inspect.signature(documented).parameters) == ["a"]
    with pytest.raises(ValueError):
        client.cache().memoize(ttl=0)(documented)


# --- threads

def test_other_threads_run_while_a_call_waits(node, client):
    node.answers["lock.acquire"] = SILENCE
    ended = []

    def wait():
        try:
            client.lock("a").acquire()
        except rukun.Cancelled as error:
            ended.append(error)
    waiting = threading.Thread(target=wait)
    waiting.start()
    node.wait_asked("lock.acquire")
    began = time.monotonic()
    sum(range(100000))
    assert time.monotonic() - began < 5 and waiting.is_alive()
    client.interrupt()
    waiting.join(10)
    assert not waiting.is_alive() and len(ended) == 1
    node.wait_asked("lock.cancel")  # a late grant cannot stay


def test_many_threads_one_client():
    with FakeNode(cache_get=lambda fields: {"found": True, "value": fields["key"],
                                            "version": 1}) as node, \
            rukun.Client(node.address) as client:
        wrong = []

        def read(number):
            for i in range(50):
                key = f"{number}/{i}"
                if client.cache().get(key) != key:
                    wrong.append(key)
        threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and len(node.asked("cache.get")) == 400


def test_package_says_what_it_is():
    assert re.fullmatch(r"\d+\.\d+\.\d+", rukun.__version__)
    assert (pathlib.Path(rukun.__file__).parent / "py.typed").exists()
    for name in rukun.__all__:
        assert getattr(rukun, name).__doc__, name
    assert json.dumps(rukun.__all__)


def resident_kib():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))


def test_calls_keep_no_memory(node, client):
    """The wrappers count references by hand; a leak of one object a call would show."""
    node.answers |= {"lock.acquire": node.grant, "cache.get": {"found": False}}
    lock = client.lock("a").acquire()
    lock.release()
    handle = client._handle()

    def once():
        with pytest.raises(rukun.LockLost):
            lock.check()
        with pytest.raises(TypeError):
            _rukun.lock_acquire(handle, "a", {"nonsense": 1})
        with pytest.raises(rukun.Error):
            _rukun.queue_publish_many(handle, "t", [(b"x", 1)] * 1001, None)
        with pytest.raises(rukun.Error):
            _rukun.call(handle, "no.such", "{}")
    for _ in range(300):
        once()
    before = resident_kib()
    for _ in range(3000):
        once()
    assert resident_kib() - before < 3000  # 12000 failures: below 256 bytes each
