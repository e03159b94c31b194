"""Caches."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import _rukun, errors, values

if TYPE_CHECKING:
    from .client import Client

P = ParamSpec("P")
R = TypeVar("R")

#: Keys and lock names have at most so many bytes; longer memoize names are cut.
_NAME_BYTES_MAX = 512


@dataclasses.dataclass(frozen=True)
class Entry:
    """A value with its version, and whether its soft time is over."""

    value: Any
    version: int
    is_stale: bool = False


class Cache:
    """The cache of one name; made by `Client.cache`."""

    def __init__(self, client: Client, name: str):
        self._client = client
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def get(self, key: str, default: Any = None) -> Any:
        """The value, never older than what this client has seen or written; `default` if
        there is none."""
        found = self.entry(key)
        return default if found is None else found.value

    def entry(self, key: str) -> Entry | None:
        """The value with its version, or None."""
        value = _rukun.cache_get(self._client._handle(), self._name, key)
        if value is None:
            return None
        return Entry(values.decode(_rukun.value_data(value), _rukun.value_encoding(value)),
                     _rukun.value_version(value), bool(_rukun.value_is_stale(value)))

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that have one; up to 1000 keys."""
        wanted = list(keys)
        if not wanted:
            return {}
        lines = self._call("cache.get", keys=wanted)["entries"]
        return {line["key"]: _value_of(line) for line in lines if line["found"]}

    def put(self, key: str, value: Any, *, ttl: float | None = None,
            soft_ttl: float | None = None, if_version: int | None = None,
            if_absent: bool = False, fence: int | None = None,
            fence_name: str | None = None) -> int:
        """Stores a value (bytes, or what has a JSON form); returns its version.

        ttl: seconds it lives. soft_ttl: seconds after which it counts as stale.
        if_version, if_absent: VersionMismatch, Exists unless it is so.
        fence: of the lock that protects the key: StaleFence if a higher one was seen, for
            the key or for all that share `fence_name`."""
        if if_version is not None and if_version < 1:
            raise ValueError(f"if_version: {if_version} is no version (if_absent=True?)")
        return _rukun.cache_put(
            self._client._handle(), self._name, key, values.encode(value), values.options(
                ttl_ms=_span(ttl, "ttl"), soft_ttl_ms=_span(soft_ttl, "soft_ttl"),
                if_version=if_version, if_absent=if_absent, fence=fence,
                fence_name=fence_name))

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Removes the key; whether it was there."""
        return _rukun.cache_delete(self._client._handle(), self._name, key, if_version or 0)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Removes up to 1000 keys; how many were there."""
        wanted = list(keys)
        if not wanted:
            return 0
        return sum(line["deleted"] for line in self._call("cache.delete",
                                                          keys=wanted)["results"])

    def add(self, key: str, delta: int = 1, *, initial: int = 0,
            ttl: float | None = None) -> int:
        """Adds to a counter, which begins at `initial`; returns what it is now. `ttl` counts
        where the counter is created."""
        return _rukun.cache_add(self._client._handle(), self._name, key, delta, initial,
                                _span(ttl, "ttl") or 0)

    def touch(self, key: str, ttl: float) -> bool:
        """From now on the key lives for `ttl` seconds; whether it is there."""
        return self._call("cache.touch", key=key, ttl_ms=_span(ttl, "ttl"))["touched"]

    def invalidate(self, prefix: str | None = None) -> int:
        """Removes all entries, or those whose keys begin so; how many."""
        return self._call("cache.invalidate", **values.options(prefix=prefix))["count"]

    def stats(self) -> dict[str, Any]:
        """Counters of the cache."""
        return self._call("cache.stats")

    def configure(self, **settings: Any) -> None:
        """Settings as in the API reference: bytes_max, policy, ttl_ms."""
        self._call("cache.configure", **settings)

    def _call(self, operation: str, **fields: Any) -> dict[str, Any]:
        if self._name:
            fields["cache"] = self._name
        return self._client.call(operation, **fields)

    def memoize(self, ttl: float, *, stale: float = 0, name: str | None = None,
                wait: float | None = 30) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Keeps what a function returned for its arguments, for `ttl` seconds:

            @cache.memoize(ttl=60, stale=30)
            def profile(user_id): ...

        On a miss one caller in the whole cluster computes, under a lock, while the others
        wait for what it finds; one that waited `wait` seconds computes for itself. With
        `stale`, for so many seconds after the ttl the old value is given to all but the one
        caller that computes the new one.

        Arguments and result need a JSON form. name: of the function among all that share
        this cache; by default its module and qualified name."""
        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            title = name or f"{function.__module__}.{function.__qualname__}"
            memo = _Memo(self, title, ttl, stale, wait)

            @functools.wraps(function)
            def remembered(*arguments: P.args, **named: P.kwargs) -> R:
                return memo.get(memo.key(arguments, named),
                                lambda: function(*arguments, **named))

            def forget(*arguments: P.args, **named: P.kwargs) -> bool:
                return self.delete(memo.key(arguments, named))

            remembered.forget = forget  # type: ignore[attr-defined]
            return remembered
        return decorate

    def __repr__(self) -> str:
        return f"<rukun.Cache {self._name!r}>"


class _Memo:
    """What `memoize` does for one function."""

    def __init__(self, cache: Cache, title: str, ttl: float, stale: float,
                 wait: float | None):
        if ttl <= 0:
            raise ValueError(f"ttl: {ttl} is not above 0")
        self._cache = cache
        self._title = title.encode()[:_NAME_BYTES_MAX - 200].decode(errors="ignore")
        self._ttl = ttl
        self._stale = stale
        self._wait = wait

    def key(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
        text = json.dumps([arguments, named], sort_keys=True, allow_nan=False)
        return f"{self._title}/{hashlib.sha256(text.encode()).hexdigest()}"

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        found = self._cache.entry(key)
        if found is not None and not found.is_stale:
            return found.value
        # With an old value at hand nobody waits: someone else is at it already.
        lock = self._cache._client.lock(self._lock_name(key),
                                        wait=self._wait if found is None else 0)
        try:
            lock.acquire()
        except (errors.LockHeld, errors.LockTimeout):
            return self._compute(key, compute) if found is None else found.value
        try:
            found = self._cache.entry(key)
            if found is not None and not found.is_stale:
                return found.value
            return self._compute(key, compute)
        finally:
            try:
                lock.release()
            except errors.Error:
                pass  # it guards against double work only, and ends with the session

    def _compute(self, key: str, compute: Callable[[], Any]) -> Any:
        value = compute()
        self._cache.put(key, value, ttl=self._ttl + self._stale,
                        soft_ttl=self._ttl if self._stale > 0 else None)
        return value

    def _lock_name(self, key: str) -> str:
        name = self._cache.name
        if len(name.encode()) > 100:
            name = hashlib.sha256(name.encode()).hexdigest()
        return f"memoize/{name}/{key}"


def _value_of(line: dict[str, Any]) -> Any:
    if "value_base64" in line:
        return base64.b64decode(line["value_base64"])
    return line.get("value")


def _span(seconds: float | None, what: str) -> int | None:
    return None if seconds is None else values.milliseconds(seconds, what)
