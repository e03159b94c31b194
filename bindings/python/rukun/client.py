"""The client: one connection to the cluster for a whole process."""

from __future__ import annotations

import atexit
import json
import os
import types
import weakref
from collections.abc import Iterable
from typing import Any

from . import _rukun, errors, values
from .cache import Cache
from .lock import Lock
from .queue import Queue

# Closing releases locks at once; without it they would stand until the session expires.
_open: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for client in list(_open):
        client.close()


class Client:
    """A client of a Rukun cluster. One is enough for a process: it is safe for threads, and
    a thread of its own keeps the session alive even while Python is busy.

    endpoints: "host:port,host:port" or a list of such; by default RUKUN_ENDPOINTS, else
        127.0.0.1:7500. The rest of the cluster is found from any of them.
    name: what lists show for this client; by default program and pid.
    token: by default RUKUN_TOKEN.
    session_ttl: seconds after which the locks of a dead client are free.
    deadline: seconds that a call may take, its own wait not counted.
    forward: False: nodes are not to pass calls on (for tests).

    CannotConnect: no endpoint answered within the deadline.

    All durations are seconds. After os.fork() the child needs a client of its own."""

    def __init__(self, endpoints: str | Iterable[str] | None = None, *,
                 name: str | None = None, token: str | None = None,
                 session_ttl: float = 10.0, deadline: float = 10.0, forward: bool = True):
        if endpoints is not None and not isinstance(endpoints, str):
            endpoints = ",".join(endpoints)
        self._pid = os.getpid()
        self._pointer = _rukun.client_open(values.options(
            endpoints=endpoints, name=name, token=token, forward=forward,
            session_ttl_ms=values.milliseconds(session_ttl, "session_ttl"),
            deadline_ms=values.milliseconds(deadline, "deadline")))
        self._is_closed = False
        _open.add(self)

    def _handle(self) -> Any:
        if self._pid != os.getpid():
            raise errors.make(_rukun.EFORK, f"the client is of process {self._pid}: process "
                                            f"{os.getpid()} needs one of its own")
        return self._pointer

    def close(self) -> None:
        """Ends the session: its locks are free at once. Calls that wait end with Closed."""
        if self._pid == os.getpid() and not self._is_closed:
            self._is_closed = True
            _rukun.client_close(self._pointer)

    def interrupt(self) -> None:
        """Ends every call that waits now, in any thread, with Cancelled."""
        _rukun.client_interrupt(self._handle())

    def lock(self, name: str, *, wait: float | None = None, shared: bool = False,
             lease: float | None = None, owner: str | None = None, priority: int = 0,
             min_hold: float | None = None, max_hold: float | None = None,
             lock_delay: float | None = None) -> Lock:
        """A lock, not yet taken: use it in `with`, call acquire(), or decorate with it.

        wait: None for ever, 0 only if it is free, else seconds.
        shared: together with other shared holders.
        lease: seconds of a lease of its own, which is not renewed; by default the lock
            lives as long as the client's session.
        owner: by default each acquire is an owner of its own, so that all exclude each other.
        priority: of a deadlock's waiters the lowest is the victim.
        min_hold: after an earlier release the lock stays closed until then.
        max_hold: it is taken away then.
        lock_delay: how long it stays closed after its holder was lost."""
        def span(seconds: float | None, what: str) -> int | None:
            return None if seconds is None else values.milliseconds(seconds, what)
        if wait is not None:
            values.milliseconds(wait, "wait")
        return Lock(self, name, wait, values.options(
            shared=shared, lease_ms=span(lease, "lease"), owner=owner, priority=priority,
            min_hold_ms=span(min_hold, "min_hold"), max_hold_ms=span(max_hold, "max_hold"),
            lock_delay_ms=span(lock_delay, "lock_delay")))

    def queue(self, topic: str) -> Queue:
        """The queue of a topic. No I/O."""
        return Queue(self, topic)

    def cache(self, name: str = "") -> Cache:
        """The cache of that name; "" is the default one. No I/O."""
        return Cache(self, name)

    def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Any operation by its name in the API reference, fields and answer as there:

            client.call("lock.info", resource="orders/42")["holders"]

        Durations are milliseconds here (wait_ms), as on the wire."""
        request = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        return json.loads(_rukun.call(self._handle(), operation, request))

    def cluster(self) -> dict[str, Any]:
        """Nodes, groups with their leaders, and the slot map."""
        return json.loads(_rukun.client_cluster(self._handle()))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self.close()
