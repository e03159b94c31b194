"""Values on their way: Python objects as JSON, bytes as they are; and durations."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from . import _rukun

#: Longer waits than this are for ever as far as a process is concerned (a century).
_SECONDS_MAX = 100 * 366 * 86400


def encode(value: Any) -> tuple[bytes, int]:
    """bytes, bytearray and memoryview go raw, everything else as JSON.

    TypeError, ValueError: it has no JSON form (NaN, a set, an object of a class ...)."""
    if isinstance(value, bytes):
        return value, _rukun.RAW
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value), _rukun.RAW
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(), _rukun.JSON


def decode(data: bytes, encoding: int) -> Any:
    """The inverse; what others have put in as msgpack comes as Python objects, too."""
    if encoding == _rukun.JSON:
        return json.loads(data)
    if encoding == _rukun.MSGPACK:
        value, end = _unpack(data, 0)
        if end != len(data):
            raise ValueError(f"msgpack: {len(data) - end} bytes after the value")
        return value
    return data


def milliseconds(seconds: float, name: str) -> int:
    """Rounded up, so that nothing above zero becomes zero."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name}: expected seconds, got {type(seconds).__name__}")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name}: {seconds} is not a duration in seconds")
    return math.ceil(min(seconds, _SECONDS_MAX) * 1000 - 1e-6)


def wait_milliseconds(seconds: float | None, name: str = "wait") -> int | None:
    """None stays None: for ever."""
    if seconds is None or seconds > _SECONDS_MAX:
        return None
    return milliseconds(seconds, name)


def options(**given: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in given.items() if value is not None}


# --- msgpack, as far as reading goes. Each reader takes the bytes and the place after the
# first byte, and gives the value and the place after it.

_FIXED = {
    0xca: ">f", 0xcb: ">d", 0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q",
    0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q",
}
_CONSTANTS = {0xc0: None, 0xc2: False, 0xc3: True}
# First byte: (what, format of the length).
_SIZED = {
    0xc4: ("bytes", ">B"), 0xc5: ("bytes", ">H"), 0xc6: ("bytes", ">I"),
    0xd9: ("text", ">B"), 0xda: ("text", ">H"), 0xdb: ("text", ">I"),
    0xdc: ("array", ">H"), 0xdd: ("array", ">I"),
    0xde: ("map", ">H"), 0xdf: ("map", ">I"),
}
_DEPTH_MAX = 64


def _number(data: bytes, at: int, form: str) -> tuple[Any, int]:
    end = at + struct.calcsize(form)
    if end > len(data):
        raise ValueError("msgpack: ends within a value")
    return struct.unpack_from(form, data, at)[0], end


def _head(first: int, data: bytes, at: int) -> tuple[str, int, int]:
    if first < 0x90:
        return "map", first & 0x0f, at
    if first < 0xa0:
        return "array", first & 0x0f, at
    if first < 0xc0:
        return "text", first & 0x1f, at
    if first not in _SIZED:
        raise ValueError(f"msgpack: no value begins with 0x{first:02x}")
    kind, form = _SIZED[first]
    size, at = _number(data, at, form)
    return kind, size, at


def _unpack(data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    if depth > _DEPTH_MAX:
        raise ValueError(f"msgpack: nested deeper than {_DEPTH_MAX}")
    first, at = _number(data, at, ">B")
    if first < 0x80:
        return first, at
    if first >= 0xe0:
        return first - 0x100, at
    if first in _CONSTANTS:
        return _CONSTANTS[first], at
    if first in _FIXED:
        return _number(data, at, _FIXED[first])
    kind, size, at = _head(first, data, at)
    if size > len(data) - at:
        raise ValueError("msgpack: ends within a value")
    if kind == "bytes":
        return data[at:at + size], at + size
    if kind == "text":
        return data[at:at + size].decode(), at + size
    if kind == "array":
        items = []
        for _ in range(size):
            item, at = _unpack(data, at, depth + 1)
            items.append(item)
        return items, at
    mapping = {}
    for _ in range(size):
        key, at = _unpack(data, at, depth + 1)
        mapping[key], at = _unpack(data, at, depth + 1)
    return mapping, at
