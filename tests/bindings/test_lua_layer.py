"""The Lua layer: its JSON by itself, the rest against a node that answers as told."""

import os
import pathlib
import signal
import subprocess
import time

from binding_paths import BUILD
from fake_node import SILENCE, Problem, deliver, delivery

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = BUILD / "bindings" / "lua"
ENVIRONMENT = dict(os.environ, LUA_PATH=f"{FOLDER}/?.lua;{FOLDER}/?/init.lua;;",
                   LUA_CPATH=f"{FOLDER}/?.so;;")


def lua(script, *arguments):
    done = subprocess.run(["lua5.4", HERE / script, *arguments], env=ENVIRONMENT, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_json_and_msgpack():
    assert int(lua("layer_json.lua").split()[0]) >= 150


def acquire(fields):
    if fields["resource"] == "held":
        raise Problem("held", holders=[])
    return {"granted": True, "fence": (1 << 53) - 1, "lease_ms": 5000}


def test_layer(node):
    stored = {}

    def put(fields):
        if fields["key"] == "wrong":
            raise Problem("version_mismatch", 412)
        stored[fields["key"]] = fields["value"]
        return {"ok": True, "version": 7}

    def get(fields):
        if "keys" in fields:
            return {"entries": [{"key": "a", "found": True, "value": 1, "version": 1},
                                {"key": "b", "found": False}]}
        if fields["key"] in ("k", "null"):
            value = [1, (1 << 53) + 1] if fields["key"] == "k" else None
            return {"found": True, "value": value, "version": 7}
        if fields["key"] in stored:
            return {"found": True, "value": stored[fields["key"]], "version": 1}
        return {"found": False}
    node.answers |= {
        "lock.acquire": acquire,
        "lock.info": lambda fields: {"resource": fields["resource"], "holders": [],
                                     "waiters": []},
        "queue.publish": lambda fields: {
            "ok": True, "ids": [f"m{i}" for i in range(len(fields["messages"]))]}
        if "messages" in fields else {"ok": True, "id": "m1"},
        "queue.consume": deliver([delivery(1, {"x": 1})], [delivery(2)], [delivery(3)],
                                 [delivery(4)], [delivery(5)]),
        "queue.ack": {"ack": True}, "queue.nack": {"ok": True},
        "cache.put": put, "cache.get": get,
        "cache.delete": {"deleted": True, "version": 8},
        "cache.add": {"value": -(1 << 63), "version": 9},
    }
    assert lua("layer.lua", node.address) == 'd1/1={"x":1} d2/1="x" d3/1="x"\ndone\n'

    fields = node.asked("lock.acquire")[0]
    assert 3000 < fields["wait_ms"] <= 5000 and fields["priority"] == -3
    released = [fields["resource"] for fields in node.asked("lock.release")]
    assert released.count("a") == 2 and released.count("forgotten") == 1
    published = node.asked("queue.publish")
    assert published[0]["data"] == {"a": 1} and published[0]["publish_id"] == "p"
    assert published[0]["delay_ms"] == 1500 and published[0]["priority"] == 9
    assert published[1]["data"] == b"\0\xff"
    assert [fields["id"] for fields in node.asked("queue.ack")] == ["d1", "d3"]
    assert [(fields["id"], fields.get("delay_ms")) for fields in node.asked("queue.nack")] == \
        [("d2", 2000), ("d4", None), ("d5", 0)]
    assert node.asked("cache.put")[0]["if_version"] == 3
    assert node.asked("cache.put")[0]["ttl_ms"] == 60000
    assert node.asked("cache.add")[0]["initial"] == -(1 << 63)
    assert node.asked("session.close")


def test_ctrl_c_ends_a_call_that_waits(node):
    node.answers["lock.acquire"] = SILENCE
    script = """
        local rukun = require "rukun"
        local client = assert(rukun.connect { endpoints = arg[1], deadline = 60 })
        print(pcall(function() return client:lock("a") end))
    """
    process = subprocess.Popen(["lua5.4", "-", node.address], env=ENVIRONMENT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdin.write(script)
    process.stdin.close()
    node.wait_asked("lock.acquire")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out = process.stdout.read()
    assert process.wait(20) == 0
    assert "interrupted!" in out and out.startswith("false")
    assert time.monotonic() - began < 5
    node.wait_asked("lock.cancel")
