"""Real rukund processes on loopback, for tests.

    with Cluster() as cluster:
        cluster.wait_ready()
        answer = cluster["n1"].post("/lock/acquire", {"resource": "r", "owner": "o"})

RUKUN_BUILD names the build folder (default build/release under the source tree).
Everything a node prints on stderr goes to <folder>/<name>.log.
"""

import http.client
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import msgpack

from stores import ENGINE, Store

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RUKUN_BUILD", ROOT / "build" / "release"))
RUKUND = BUILD / "server" / "rukund" / "rukund"

JSON = "application/json"
MSGPACK = "application/vnd.msgpack"
RAW = "application/octet-stream"

# Sanitizers slow everything down; RUKUN_SLOW=4 makes all waits four times as long.
SLOW = float(os.environ.get("RUKUN_SLOW", "1"))


def free_ports(count):
    """Ports that nobody listens on now, all different."""
    sockets = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def wait_until(check, timeout=20.0, what="condition", pause=0.05):
    """Calls check until it is true; returns its value."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout * SLOW:.0f} s: {what}")
        time.sleep(pause)


class Answer:
    """Status, headers and body of one HTTP answer."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def type(self):
        return (self.headers.get("Content-Type") or "").split(";")[0]

    @property
    def data(self):
        """The decoded document."""
        if self.type.endswith("json"):
            return json.loads(self.body)
        if self.type.endswith("msgpack"):
            return msgpack.unpackb(self.body, raw=False, strict_map_key=False)
        return self.body

    def __getitem__(self, name):
        return self.data[name]

    def __repr__(self):
        return f"<{self.status} {self.type} {self.body[:300]!r}>"


class RpcError(Exception):
    """An RPC error: the problem document is in .problem."""

    def __init__(self, problem):
        super().__init__(f"{problem.get('code')}: {problem.get('detail')}")
        self.problem = problem
        self.code = problem.get("code")


class Rpc:
    """One msgpack-rpc connection; an independent implementation on python3-msgpack."""

    def __init__(self, address, hello=True, timeout=20.0):
        host, port = address.rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)), timeout=timeout * SLOW)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False,
                                         max_buffer_size=64 << 20)
        self.next_id = 1
        self.replies = {}
        self.hello = self.call("hello", protocol=1, client="test") if hello else None

    def send(self, method, /, **fields):
        """Sends a request and returns its id."""
        number = self.next_id
        self.next_id += 1
        self.sock.sendall(msgpack.packb([0, number, method, [fields]]))
        return number

    def notify(self, method, /, **fields):
        self.sock.sendall(msgpack.packb([2, method, [fields]]))

    def receive(self):
        """The next message, whatever it is."""
        while True:
            for message in self.unpacker:
                return message
            data = self.sock.recv(1 << 16)
            if not data:
                raise ConnectionError("closed by the node")
            self.unpacker.feed(data)

    def wait(self, number):
        """The result of the request with that id."""
        while number not in self.replies:
            message = self.receive()
            if message[0] == 1:
                self.replies[message[1]] = message
        _, _, error, result = self.replies.pop(number)
        if error is not None:
            raise RpcError(error)
        return result

    def call(self, method, /, **fields):
        return self.wait(self.send(method, **fields))

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Node:
    """One rukund process."""

    def __init__(self, cluster, name, http, rpc, peer):
        self.cluster = cluster
        self.name = name
        self.http = f"127.0.0.1:{http}"
        self.rpc = f"127.0.0.1:{rpc}"
        self.peer = f"127.0.0.1:{peer}"
        self.data = cluster.folder / name
        self.log = cluster.folder / f"{name}.log"
        self.process = None
        self.extra = []  # flags of this node alone
        self.peers = None  # its --peers, None: the cluster's
        self.descriptors = None  # most open files, None: as the test's own
        self.prefix = []  # a command that runs it, such as one that enters a namespace

    def start(self):
        assert self.process is None, f"{self.name} runs already"
        command = [*self.prefix, str(RUKUND), "--name", self.name, "--data", str(self.data), "--http",
                   self.http, "--rpc", self.rpc, "--peer", self.peer, "--peers",
                   self.peers or self.cluster.peers, *self.cluster.flags, *self.extra]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log,
                                            stdin=subprocess.DEVNULL,
                                            preexec_fn=self._limit)

    def _limit(self):
        if self.descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        self.end(signal.SIGKILL)

    def stop(self, timeout=20.0):
        """SIGTERM, and waits; the exit code."""
        return self.end(signal.SIGTERM, timeout)

    def end(self, number, timeout=20.0):
        process, self.process = self.process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def restart(self):
        self.kill()
        self.start()

    def wipe(self):
        shutil.rmtree(self.data)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # HTTP

    def request(self, method, path, body=None, headers=None, timeout=20.0):
        """One request on a fresh connection; body is bytes or None."""
        host, port = self.http.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout * SLOW)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, accept=None, timeout=20.0):
        return self.request("GET", path, headers={"Accept": accept} if accept else {},
                            timeout=timeout)

    def post(self, path, fields, encoding=JSON, accept=None, headers=None, timeout=20.0):
        """An operation: fields are encoded as the content type says."""
        body = json.dumps(fields).encode() if encoding == JSON else msgpack.packb(fields)
        all_headers = {"Content-Type": encoding, **(headers or {})}
        if accept:
            all_headers["Accept"] = accept
        return self.request("POST", path, body, all_headers, timeout)

    def connect(self, **options):
        """An RPC connection that has said hello."""
        return Rpc(self.rpc, **options)

    # What it says about itself

    def is_ready(self):
        try:
            return self.get("/readyz", timeout=2).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def raft(self):
        return self.get("/raft/state").data

    def map(self):
        return self.get("/cluster").data

    def metric(self, name):
        """The sum of a metric over its labels."""
        total = 0.0
        for line in self.get("/metrics").body.decode().splitlines():
            if line.split("{")[0].split(" ")[0] == name:
                total += float(line.rsplit(" ", 1)[1])
        return total

    def __repr__(self):
        return f"<node {self.name}>"


class Cluster:
    """Nodes n1, n2 ... in one temporary folder. flags go to every node."""

    def __init__(self, size=3, flags=(), folder=None, start=True):
        assert RUKUND.exists(), f"{RUKUND} is not built; RUKUN_BUILD names another folder"
        self.is_own_folder = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="rukun-test-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.flags = list(flags)
        if "--reserve-bytes" not in self.flags:
            self.flags += ["--reserve-bytes", "1048576"]
        self.redis = None
        if ENGINE != "embedded" and "--engine" not in self.flags:
            self.redis = Store()
            self.flags += self.redis.flags
        ports = free_ports(3 * size)  # after Redis has its own
        self.nodes = [Node(self, f"n{i + 1}", *ports[3 * i:3 * i + 3]) for i in range(size)]
        self.peers = ",".join(f"{node.name}={node.peer}" for node in self.nodes)
        if start:
            self.start()

    def grow(self, name):
        """A node more, not started: its --peers name all that are known, the others' do not."""
        node = Node(self, name, *free_ports(3))
        node.peers = ",".join(f"{other.name}={other.peer}" for other in [*self.nodes, node])
        self.nodes.append(node)
        return node

    def __getitem__(self, name):
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def __iter__(self):
        return iter(self.nodes)

    def start(self):
        for node in self.nodes:
            if not node.is_running:
                node.process = None
                node.start()

    def running(self):
        return [node for node in self.nodes if node.is_running]

    def wait_ready(self, nodes=None, timeout=30.0):
        """Until the nodes (all that run) have a quorum in every group."""
        nodes = list(nodes or self.running())

        def check():
            for node in nodes:
                assert node.is_running, f"{node.name} ended:\n{node.log_text()[-3000:]}"
            return all(node.is_ready() for node in nodes)

        try:
            wait_until(check, timeout, "all nodes ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None
        return self

    def leader(self, group=0, timeout=20.0):
        """The node that leads the group, as itself says."""

        def check():
            for node in self.running():
                try:
                    state = node.raft()
                except (OSError, http.client.HTTPException, ValueError):
                    continue
                for line in state["groups"]:
                    if line["id"] == group and line["role"] == "leader":
                        return node
            return None

        return wait_until(check, timeout, f"a leader of group {group}")

    def logs(self, size=3000):
        return "\n".join(f"--- {node.name}\n{node.log_text()[-size:]}" for node in self.nodes)

    def close(self):
        """Ends all; a node that crashed is an error of the test."""
        crashed = [node.name for node in self.nodes
                   if node.process is not None and node.process.poll() not in (None, 0)]
        for node in self.nodes:
            if node.is_running:
                node.process.send_signal(signal.SIGCONT)
            node.kill()
        if self.redis is not None:
            self.redis.close()
        text = self.logs() if crashed else ""
        if self.is_own_folder and not os.environ.get("RUKUN_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        assert not crashed, f"ended by themselves: {crashed}\n{text}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
