"""A client of Redis that speaks bytes, and the scripts of server/redis/lua put together as the
node puts them together, but for the clock, which the test sets."""
import hashlib
import pathlib
import socket

ROOT = pathlib.Path(__file__).resolve().parents[2]
LUA = ROOT / "server" / "redis" / "lua"
START_MS = 1_700_000_000_000
EPOCH_MS = 1_577_836_800_000  # of message numbers
HISTORY = 77


class RedisError(Exception):
    pass


class Connection:
    """One connection; commands and answers as bytes, integers, lists and None."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, *args):
        parts = [b"*%d\r\n" % len(args)]
        for arg in args:
            data = arg if isinstance(arg, bytes) else str(arg).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.file.read(size + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise RedisError(f"not RESP: {line!r}")

    def __call__(self, *args):
        self.send(*args)
        return self.read()


def script(name, parts=("queue.lua",), has_clock=True):
    clock = (LUA / "clock.lua").read_text()
    if has_clock:
        clock = clock.replace("redis.call('TIME')", "{redis.call('GET', 'test:now') / 1000, 0}")
    return clock + "\n".join((LUA / part).read_text() for part in (*parts, name))


class Topics:
    """Calls on topics, with a clock of their own unless has_clock is False: a key that stands
    for it is in another slot of a Cluster. Refusals raise Refused."""

    SCRIPTS = {op: f"queue_{file}.lua" for file, ops in {
        "publish": ["publish"], "consume": ["consume"],
        "settle": ["ack", "nack", "extend", "return", "delete"],
        "admin": ["configure", "pause", "resume", "purge", "redrive", "number", "sweep"],
        "read": ["info", "peek"],
        "import": ["topic", "message", "window", "fence"]}.items() for op in ops}
    INFO = ("ready delayed in_flight dead bytes published delivered acked failed expired "
            "paused visibility_ms deliveries_max retry_ms retry_max_ms dedup_ms ttl_ms "
            "messages_max bytes_max count").split()

    def __init__(self, connection, has_clock=True):
        self.redis = connection
        self.has_clock = has_clock
        self.texts = {name: script(name, has_clock=has_clock)
                      for name in set(self.SCRIPTS.values())}
        self.seq = 0
        self.numbers = {}
        self.at(START_MS)

    def at(self, now):
        self.now = now
        if self.has_clock:
            self.redis("SET", "test:now", now)

    def run(self, op, topic, *args, keys=(), client="", seq=0, first=0):
        base, is_dead = topic, topic.endswith("/dead")
        while base.endswith("/dead"):
            base = base[:-5]
        tail = ":dead" * ((len(topic) - len(base)) // 5)
        keys = [f"q:{{{base}}}{tail}", f"q:inflight:{{{base}}}{tail}",
                f"q:{{{base}}}{tail}:none", *keys]
        text = self.texts[self.SCRIPTS[op]]
        call = (len(keys), *keys, op, "1" if is_dead else "0", 0, "q:wake", client, seq, first,
                660000, *args)
        try:
            answer = self.redis("EVALSHA", hashlib.sha1(text.encode()).hexdigest(), *call)
        except RedisError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            answer = self.redis("EVAL", text, *call)
        self.listing = answer[2]
        if answer[0] < 0:
            raise Refused(answer)
        return answer[3:] if answer[0] == 0 else None

    def number(self, topic):
        return self.numbers.setdefault(topic, len(self.numbers) + 1)

    def publish(self, topic, *bodies, client="", seq=0, first=0, fence="", fence_name=None,
                number=None, keys=(), **each):
        fields = {"cost": 336, "size": 1, "priority": 0, "group": "", "delay_ms": 0,
                  "deliver_at": 0, "ttl_ms": 0, "publish_id": "", "scope": 0, "unique": ""}
        fields.update(each)
        # What the beginning of ids says is the node's affair: slot 0 and HISTORY here.
        head = b"m" + bytes([1, 0, HISTORY])
        # Three bytes after the letter: four digits, and the last four bits.
        digits = b"maeae"
        args = [topic, self.number(topic) if number is None else number, HISTORY, digits,
                crc32c(head), fence, "0" if fence_name is None else "1", fence_name or "",
                86400000, 0, HISTORY & 15, 4]
        for body in bodies:
            args += [body, *fields.values()]
        return self.run("publish", topic, *args, client=client, seq=seq, first=first, keys=keys)

    def consume(self, topic, max=1, visibility="", wait="", bytes_max=1 << 20, **call):
        left, due, *out = self.run("consume", topic, max, visibility, bytes_max, "c1", wait,
                                   **call)
        self.left, self.due = left, due
        return out

    def take(self, topic, **call):
        out = self.consume(topic, **call)
        return (out[0][0], out[0][1]) if out else None

    def settle(self, op, topic, *deliveries, delay="", dead=0, visibility=0, **call):
        flat = [part for delivery in deliveries for part in delivery]
        out = self.run(op, topic, delay, dead, visibility, *flat, **call)
        return out[0] if len(out) == 1 else out

    def configure(self, topic, **settings):
        flat = [part for item in settings.items() for part in item]
        return self.run("configure", topic, topic, self.number(topic), HISTORY, 0, 0, *flat)

    def admin(self, op, topic, number="", dead=0, limit=1000, keys=(), name=None):
        out = self.run(op, topic, name or topic, number, HISTORY, dead, limit, keys=keys)
        return out and out[0]

    def info(self, topic):
        return dict(zip(self.INFO, self.run("info", topic)))

    def peek(self, topic, dead=0, id="", after="", limit=100, bytes_max=1 << 20):
        more, *out = self.run("peek", topic, dead, id, after, limit, bytes_max)
        self.more = more
        return out


class Refused(Exception):
    def __init__(self, answer):
        super().__init__(f"{answer[0]} {answer[3:]}")
        self.status, self.field, self.text, self.number = answer[0], *answer[3:6]


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def message_id(number, topic_number):
    """As core/api/delivery_id.h says, for slot 0 and HISTORY."""
    body = bytearray([1, 0, HISTORY])
    value = topic_number << 40 | number
    while value >= 0x80:
        body.append(value & 0x7F | 0x80)
        value >>= 7
    body.append(value)
    body += (crc32c(b"m" + bytes(body)) & 0xFFFFFF).to_bytes(3, "little")
    bits = "".join(f"{byte:08b}" for byte in body)
    bits += "0" * (-len(bits) % 5)
    digits = "abcdefghijklmnopqrstuvwxyz234567"
    return ("m" + "".join(digits[int(bits[i:i + 5], 2)]
                          for i in range(0, len(bits), 5))).encode()
