"""Real redis-server processes on loopback, for tests.

    with Redis() as redis:                        one server
        redis("SET", "k", "v")                    a command, over a connection of its own
    with Sentinels() as group:                    a master, two replicas, three Sentinels
        group.master().kill()
    with Cluster() as cluster:                    three masters with a replica each
        cluster.move_slot(12182, source, target)

Each server has a folder of its own and free ports; everything is ended and removed with it.
"""

import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RUKUN_BUILD", ROOT / "build" / "release"))

# Sanitizers slow everything down; RUKUN_SLOW=4 makes all waits four times as long.
SLOW = float(os.environ.get("RUKUN_SLOW", "1"))


def need_redis():
    """Skips the test where there is no redis-server."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")


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


class RedisError(Exception):
    """An error reply."""


class Connection:
    """The least of a client, so that tests see Redis with other eyes than the code's."""

    def __init__(self, port, user=None, password=None, context=None, timeout=10.0):
        raw = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket = raw if context is None else context.wrap_socket(
            raw, server_hostname="localhost")
        self.file = self.socket.makefile("rb")
        if password is not None:
            self(*(["AUTH", user, password] if user else ["AUTH", password]))

    def __call__(self, *args):
        self.send(*args)
        return self.read()

    def send(self, *args):
        out = [b"*%d\r\n" % len(args)]
        for arg in args:
            data = arg if isinstance(arg, bytes) else str(arg).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(out))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed by the server")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            return self.file.read(size + 2)[:-2].decode("utf-8", "surrogateescape")
        if kind == b"*":
            return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]
        raise ConnectionError(f"no reply: {line!r}")

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Redis:
    """One redis-server. Options are lines of its configuration: Redis(maxmemory="2mb").

    tls: a Certificates; then it takes TLS connections only. watch: it is a Sentinel, and these
    are its lines. aof: its data survive kill -9."""

    def __init__(self, tls=None, watch=None, aof=False, user=None, password=None, **options):
        need_redis()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rukun-redis-"))
        self.tls, self.user, self.password = tls, user, password
        self.is_sentinel = watch is not None
        self.port = free_ports(1)[0]
        self.process = None
        lines = [f"dir {self.folder}", "bind 127.0.0.1", "daemonize no",
                 f"logfile {self.folder}/log"]
        if tls is None:
            lines.append(f"port {self.port}")
        else:
            lines += ["port 0", f"tls-port {self.port}", f"tls-ca-cert-file {tls.ca}",
                      f"tls-cert-file {tls.server_cert}", f"tls-key-file {tls.server_key}",
                      "tls-replication yes", "tls-cluster yes"]
            options.setdefault("tls_auth_clients", "optional")
        if self.is_sentinel:
            lines += [f"sentinel {line}" for line in watch]
        else:
            lines += ['save ""', f"appendonly {'yes' if aof else 'no'}", "appendfsync always",
                      "repl-diskless-sync-delay 0", "enable-debug-command yes"]
            if password is not None and user is None:
                lines.append(f'requirepass "{password}"')
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"{name.replace('_', '-')} {one}" for one in values]
        self.config = self.folder / "redis.conf"
        self.config.write_text("\n".join(lines) + "\n")
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    # ---- the process ----

    def start(self, wait=True):
        """Starts it, or starts it again on the same port with what is in its folder."""
        command = ["redis-server", str(self.config)]
        if self.is_sentinel:
            command.append("--sentinel")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            wait_until(self.answers, what=f"redis-server answers; {self.log()[-500:]}")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"redis-server ended: {self.log()[-2000:]}")
        try:
            self("PING")
            return True
        except OSError:
            return False
        except RedisError as error:
            return not str(error).startswith("LOADING")

    def kill(self):
        """kill -9."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def restart(self):
        self.kill()
        return self.start()

    def restart_empty(self):
        """As after a start on a new disk."""
        self.kill()
        for path in self.folder.glob("appendonlydir/*"):
            path.unlink()
        return self.start()

    def log_size(self):
        """Bytes of its log of commands."""
        return self._log_file().stat().st_size

    def _log_file(self):
        return max(self.folder.glob("appendonlydir/*.incr.aof"))

    def restart_with(self, size):
        """As after the power failed: of the log the disk has only that much."""
        self.kill()
        os.truncate(self._log_file(), size)
        return self.start()

    def become(self, other):
        """Both go down, and the other one's data come back under this one's address: a replica
        that takes the place of its master."""
        self.kill()
        other.kill()
        config = self.config.read_text()
        self.folder, other.folder = other.folder, self.folder
        self.config = self.folder / "redis.conf"
        self.config.write_text(config.replace(str(other.folder), str(self.folder)))
        return self.start()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def log(self):
        try:
            return (self.folder / "log").read_text(errors="replace")
        except OSError:
            return ""

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- what it says ----

    def connect(self, timeout=10.0):
        context = None if self.tls is None else self.tls.client_context()
        return Connection(self.port, self.user, self.password, context, timeout)

    def __call__(self, *args):
        with self.connect() as connection:
            return connection(*args)

    def info(self, name):
        for line in self("INFO", "all").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value
        return None

    def error_count(self, kind):
        """How many commands were refused that way."""
        return int((self.info(f"errorstat_{kind}") or "count=0").split("=")[1])

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def url(self, path="", query="", scheme=None):
        scheme = scheme or ("redis" if self.tls is None else "rediss")
        who = f"{self.user or ''}:{self.password}@" if self.password is not None else ""
        return f"{scheme}://{who}{self.address}{path}{'?' + query if query else ''}"


class Tap:
    """A way to a Redis that a test can make deaf: while is_muted, what Redis sends to those who
    subscribe is lost, and all connections live. before(data): called with what is about to be
    sent to Redis."""

    def __init__(self, redis):
        self.redis = redis
        self.is_muted = False
        self.before = lambda data: None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = [self.listener]
        self._run(self._accept)

    def _run(self, target, *args):
        threading.Thread(target=target, args=args, daemon=True).start()

    def _accept(self):
        try:
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.redis.port))
                self.sockets += [client, server]
                subscribers = []
                self._run(self._pass_on, client, server, lambda data, of=subscribers: (
                    of.append(True) if b"SUBSCRIBE" in data else self.before(data)) or True)
                self._run(self._pass_on, server, client, lambda _, of=subscribers: not (
                    of and self.is_muted))
        except OSError:
            pass

    @staticmethod
    def _pass_on(source, target, may_pass):
        try:
            while data := source.recv(1 << 16):
                if may_pass(data):
                    target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def url(self, query=""):
        return f"redis://127.0.0.1:{self.port}{'?' + query if query else ''}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self.sockets:
            one.close()


class Certificates:
    """An authority of our own, with certificates for a server and a client."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rukun-tls-"))
        self.ca = self.folder / "ca.pem"
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                  "-nodes", "-days", "2", "-subj", "/CN=Rukun test authority",
                  "-keyout", self.folder / "ca.key", "-out", self.ca)
        self.server_cert, self.server_key = self.issue(
            "server", "DNS:localhost,IP:127.0.0.1,IP:::1")
        self.client_cert, self.client_key = self.issue("client", "DNS:client")

    def issue(self, name, names):
        key, cert = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        request, extension = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extension.write_text(f"subjectAltName={names}\n")
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self._run("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey",
                  self.folder / "ca.key", "-CAcreateserial", "-days", "2", "-extfile",
                  extension, "-out", cert)
        return cert, key

    @staticmethod
    def _run(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)

    def client_context(self):
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.client_cert, self.client_key)
        return context

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Servers:
    """Several servers that end together."""

    def __init__(self):
        self.servers = []

    def _add(self, **options):
        self.servers.append(Redis(**options))
        return self.servers[-1]

    def close(self):
        for server in self.servers:
            server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def by_port(self, port):
        return next(server for server in self.servers if server.port == int(port))


class Sentinels(_Servers):
    """A master with two replicas, watched by three Sentinels."""

    name = "main"

    def __init__(self, password=None, down_after_ms=600, **options):
        super().__init__()
        try:
            self._start(password, down_after_ms, options)
        except BaseException:
            self.close()
            raise

    def _start(self, password, down_after_ms, options):
        master = self._add(password=password, **options)
        auth = {} if password is None else {"masterauth": password}
        if password is not None:
            master("CONFIG", "SET", "masterauth", password)
        self.data = [master]
        for _ in range(2):
            self.data.append(self._add(password=password, replicaof=f"127.0.0.1 {master.port}",
                                       **auth, **options))
        wait_until(lambda: master.info("connected_slaves") == "2", what="two replicas")
        watch = [f"monitor {self.name} 127.0.0.1 {master.port} 2",
                 f"down-after-milliseconds {self.name} {down_after_ms}",
                 f"failover-timeout {self.name} 3000", f"parallel-syncs {self.name} 2"]
        if password is not None:
            watch.append(f"auth-pass {self.name} {password}")
        self.sentinels = [self._add(watch=watch, tls=options.get("tls")) for _ in range(3)]
        wait_until(self._is_settled, what="the Sentinels know each other")

    def _is_settled(self):
        for sentinel in self.sentinels:
            fields = sentinel("SENTINEL", "master", self.name)
            known = dict(zip(fields[::2], fields[1::2]))
            if known["num-other-sentinels"] != "2" or known["num-slaves"] != "2":
                return False
        return True

    def master(self):
        """The server that the Sentinels name now."""
        for sentinel in self.sentinels:
            if sentinel.process.poll() is None:
                address = sentinel("SENTINEL", "get-master-addr-by-name", self.name)
                return self.by_port(address[1])
        raise AssertionError("no Sentinel is left")

    def order_failover(self, is_careful=True):
        """SENTINEL FAILOVER. The old master goes on taking writes for a while, which are lost: a
        careful operator stops them first."""
        old = self.master()
        if is_careful:
            old("CLIENT", "PAUSE", 10000, "WRITE")

        def is_begun():
            try:
                return self.sentinels[0]("SENTINEL", "FAILOVER", self.name) == "OK"
            except RedisError as error:
                assert str(error).startswith(("INPROG", "NOGOODSLAVE")), error
                return False
        wait_until(is_begun, 30, "a failover can be ordered")

    def wait_failover(self, old):
        """Waits until another server is the master, takes writes, and has a replica, and every
        Sentinel names it: one that does not yet sends clients to the old one, should that be
        started."""
        def is_over():
            new = self.master()
            return new if new is not old and self._named() == {str(new.port)} and \
                new.info("role") == "master" and new.info("connected_slaves") != "0" else None
        return wait_until(is_over, 30, "a failover")

    def _named(self):
        """The ports of what the Sentinels take for the master."""
        return {sentinel("SENTINEL", "get-master-addr-by-name", self.name)[1]
                for sentinel in self.sentinels if sentinel.process.poll() is None}

    def wait_whole(self):
        """Until all Sentinels name one master, and the others follow it."""
        def is_whole():
            return len(self._named()) == 1 and self._is_settled() and \
                self.master().info("connected_slaves") == "2" and \
                all(server.info("master_link_status") in (None, "up") for server in self.data)
        wait_until(is_whole, 60, "the master has its two replicas")
        for server in self.data:
            server("CLIENT", "UNPAUSE")

    def url(self, path="", query=""):
        password = self.data[0].password
        who = f":{password}@" if password is not None else ""
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        scheme = "redis" if self.data[0].tls is None else "rediss"
        return (f"{scheme}+sentinel://{who}{hosts}/{self.name}{path}"
                f"{'?' + query if query else ''}")


class Cluster(_Servers):
    """A Cluster: three masters, each with a replica unless replicas is 0. A master that is silent
    for node_timeout_ms, as on a busy machine, is replaced."""

    def __init__(self, replicas=1, node_timeout_ms=1000, **options):
        super().__init__()
        try:
            options["cluster_node_timeout"] = str(node_timeout_ms)
            self._start(replicas, options)
        except BaseException:
            self.close()
            raise

    def _start(self, replicas, options):
        for _ in range(3 * (1 + replicas)):
            self._add(cluster_enabled="yes", cluster_port=str(free_ports(1)[0]), **options)
        made = self.cli("--cluster", "create", *(server.address for server in self.servers),
                        "--cluster-replicas", str(replicas), "--cluster-yes")
        assert made.returncode == 0, made.stdout + made.stderr
        wait_until(self.is_whole, what="the Cluster is whole")

    def cli(self, *args):
        return subprocess.run(["redis-cli", *args], capture_output=True, text=True, timeout=120)

    def alive(self):
        return [server for server in self.servers if server.process.poll() is None]

    def is_whole(self):
        """Everyone alive agrees that all slots are served, and replicas follow."""
        for server in self.alive():
            info = server("CLUSTER", "INFO")
            if "cluster_state:ok" not in info or "cluster_slots_assigned:16384" not in info:
                return False
            if server.info("role") == "slave" and server.info("master_link_status") != "up":
                return False
        return True

    def masters(self):
        return [server for server in self.alive() if server.info("role") == "master"]

    def id_of(self, server):
        return server("CLUSTER", "MYID")

    def owner(self, slot, witness=None):
        """The server that has the slot, as the witness or the first one alive sees it."""
        for first, last, master, *_ in (witness or self.alive()[0])("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return self.by_port(master[1])
        raise AssertionError(f"slot {slot} has no master")

    def slot(self, key):
        return self.alive()[0]("CLUSTER", "KEYSLOT", key)

    def begin_move(self, slot, target):
        """Opens a slot for migration: from now on absent keys get ASK."""
        source = self.owner(slot)
        target("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        return source

    def move_keys(self, slot, source, target, count=100, slow_s=0.0):
        """For slow_s count at a time, with pauses; what is left then in large steps."""
        end = time.monotonic() + slow_s
        while True:
            is_slow = time.monotonic() < end
            keys = source("CLUSTER", "GETKEYSINSLOT", slot, count if is_slow else 100)
            if not keys:
                return
            source("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            if is_slow:
                time.sleep(0.02)

    def end_move(self, slot, target):
        """Moves in quick succession can make the nodes disagree for good, as Redis resolves
        equal epochs by name: so each is told until all say the same."""
        name = self.id_of(target)

        def is_agreed():
            for server in [target, *(one for one in self.masters() if one is not target)]:
                server("CLUSTER", "SETSLOT", slot, "NODE", name)
            time.sleep(0.02)
            return all(self.owner(slot, server) is target for server in self.masters())
        wait_until(is_agreed, what=f"all agree on slot {slot}")

    def move_slot(self, slot, target):
        source = self.begin_move(slot, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, target)

    def url(self, query=""):
        hosts = ",".join(server.address for server in self.servers[:2])
        return f"redis+cluster://{hosts}{'?' + query if query else ''}"
