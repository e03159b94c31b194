"""What a newer program may have left or may send: refused, with a text that names it."""

import socket
import struct
import subprocess

import pytest
from rukun_cluster import BUILD, SLOW, Cluster, wait_until

FORGE = BUILD / "tests" / "golden" / "golden_forge"

CASES = {
    "command-version": "group {group}: entry {index} can not be applied: "
                       "command version 9; this program knows up to 1",
    "request-version": "group {group}: entry {index} can not be applied: "
                       "request version 9; this program knows up to 1",
    "operation": "group {group}: entry {index} can not be applied: "
                 "operation 127; this program has none",
    "machine-version": "group {group}: entry {index} can not be applied: "
                       "machine version 9; this program knows up to 1",
    "member-table": "group {group}: entry {index} can not be applied: "
                    "member table version 9; this program knows up to 2",
    "membership": "group {group}: entry {index} can not be applied: "
                  "membership change of version 9; unknown here",
    "snapshot-machine": "group {group}: a record of snapshot {index} does not load: "
                        "machine version 9; this program knows up to 1",
    "record-version": "group {group}: a record of snapshot {index} does not load: "
                      "record version 9; this program knows up to 1",
    "record-kind": "group {group}: a record of snapshot {index} does not load: "
                   "record kind 63; this program has none",
    "snapshot-format": "format version 9 is not known; this program reads version 1",
    "node-record": "node record: version 9; this program knows up to",
    "log-version": "wal/id: format version 9 is not known; this program reads version 1",
    "segment-version": ".wal: format version 9 is not known; this program reads version 1",
}


@pytest.fixture(scope="module")
def stopped():
    """The data folder of a lone node that has worked and was stopped."""
    with Cluster(size=1) as nodes:
        nodes.wait_ready()
        for i in range(20):
            assert nodes["n1"].post("/cache/put", {"k": f"k{i}", "v": i}).status == 200
        assert nodes["n1"].post("/lock/acquire", {"resource": "r", "owner": "o"}).status == 200
        assert nodes["n1"].stop() == 0
        yield nodes


def ended(node):
    """Its exit code, once it has ended by itself."""
    try:
        return node.process.wait(20 * SLOW)
    finally:
        node.kill()


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("group", [0, 1])
def test_a_node_stops_at_what_it_does_not_know(stopped, tmp_path, what, group):
    node = stopped["n1"]
    node.data = tmp_path / "data"
    node.log = tmp_path / "log"
    subprocess.run(["cp", "-a", stopped.folder / "n1", node.data], check=True)
    index = subprocess.run([FORGE, node.data, str(group), what], check=True,
                           capture_output=True, text=True).stdout.strip()
    node.start()
    assert ended(node) not in (0, None)
    text = node.log_text()
    assert CASES[what].format(group=group, index=index) in text, text[-2000:]


def frame(payload):
    return struct.pack("<II", len(payload), crc32c(payload)) + payload


def crc32c(data):
    value = 0xffffffff
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
    return value ^ 0xffffffff


def blob(text):
    return bytes([len(text)]) + text.encode()


def greet(node, version):
    """Says hello as node n2; the code and text of the answer."""
    host, port = node.peer.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10 * SLOW) as sock:
        hello = struct.pack("<IBB", 0x4c504b52, version, 0)
        sock.sendall(frame(hello + blob("") + blob("n2") + blob("n1")))
        data = b""
        while len(data) < 8 or len(data) < 8 + struct.unpack("<I", data[:4])[0]:
            more = sock.recv(4096)
            assert more, "closed without an answer"
            data += more
        return data[8], data[10:].decode()


def test_another_version_of_the_peer_protocol_is_refused(fresh):
    nodes = fresh(size=1)
    nodes.wait_ready()
    node = nodes["n1"]
    assert node.metric("rukun_peer_connections_refused_total") == 0
    code, text = greet(node, 2)
    assert code != 0
    assert text == "version 2 of the peer protocol is not spoken, only 1"
    assert node.metric("rukun_peer_connections_refused_total") == 1
    wait_until(lambda: "peer refused" in node.log_text(), what="the line in the log")
    line = next(line for line in node.log_text().splitlines() if "peer refused" in line)
    assert f'peer=n2 reason="{text}"' in line
    assert greet(node, 1)[0] == 0  # the version was the reason
