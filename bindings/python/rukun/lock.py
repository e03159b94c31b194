"""Locks."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import _rukun, errors, values

if TYPE_CHECKING:
    from .client import Client

P = ParamSpec("P")
R = TypeVar("R")

_STATES = {
    _rukun.LOCK_SAFE: "safe",
    _rukun.LOCK_JEOPARDY: "jeopardy",
    _rukun.LOCK_LOST: "lost",
    _rukun.LOCK_RELEASED: "released",
}


class Lock:
    """One way to a named lock; made by `Client.lock`, which tells the arguments.

        with client.lock("orders/42", wait=5) as lock:
            db.write(order, fence=lock.fence)
            lock.check()

    Two Lock objects of one name exclude each other, in one process, too. One object holds
    the lock once at a time: threads make one each. As a decorator, each call of the
    function takes the lock anew."""

    def __init__(self, client: Client, name: str, wait: float | None,
                 options: dict[str, Any]):
        self._client = client
        self._name = name
        self._wait = wait
        self._options = options
        self._handle: Any = None

    def acquire(self, wait: float | None | types.EllipsisType = ...) -> Lock:
        """Takes the lock; `wait` as in `Client.lock`, whose value is the default.

        LockHeld: held, and wait is 0. LockTimeout: not granted within the wait. Deadlock:
        to wait would close a cycle. SessionExpired: all locks of the client are gone; the
        next call begins a new session. OutcomeUnknown: no answer; the request is cancelled,
        so that a late grant cannot stay."""
        if self._handle is not None and self.state != "released":
            raise errors.make(_rukun.EINVAL, f"this object holds {self._name} already: make "
                                             "another one with client.lock()")
        wait_ms = values.wait_milliseconds(self._wait if wait is ... else wait)
        self._handle = _rukun.lock_acquire(self._client._handle(), self._name,
                                           {"wait_ms": wait_ms, **self._options})
        return self

    def release(self) -> None:
        """Gives the lock back. NotOwner: it was lost before."""
        _rukun.lock_release(self._held())

    def check(self) -> None:
        """LockLost unless the lock is held by this client's clock. No I/O."""
        _rukun.lock_check(self._held())

    def _held(self) -> Any:
        self._client._handle()  # refuses after a fork
        if self._handle is None:
            raise errors.make(_rukun.EINVAL, f"lock {self._name} is not acquired yet")
        return self._handle

    @property
    def name(self) -> str:
        return self._name

    @property
    def fence(self) -> int:
        """It rises with every grant. Send it along with each write that the lock protects,
        and let the receiver refuse any fence below the highest it has seen."""
        return _rukun.lock_fence(self._held())

    @property
    def owner(self) -> str:
        """Who holds it, as the cluster knows it."""
        return _rukun.lock_owner(self._held())

    @property
    def state(self) -> str:
        """"safe", "jeopardy" (renewals fail; the lease has not run out), "lost" or
        "released", by this client's clock. No I/O."""
        if self._handle is None:
            return "released"
        return _STATES[_rukun.lock_state_now(self._held())]

    @property
    def left(self) -> float:
        """Seconds left of the lease by this client's clock; 0.0: lost or released."""
        if self._handle is None:
            return 0.0
        return _rukun.lock_left_ms(self._held()) / 1000

    def __enter__(self) -> Lock:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        if self.state == "released":
            return
        try:
            self.release()
        except errors.NotOwner as lost:
            if error is None:
                raise errors.make(_rukun.ELOST, str(lost)) from lost
        except errors.Error:
            # The block's own error says more than this one, and what could not be
            # released ends with the session.
            if error is None:
                raise

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def locked(*arguments: P.args, **named: P.kwargs) -> R:
            with Lock(self._client, self._name, self._wait, self._options):
                return function(*arguments, **named)
        return locked

    def __repr__(self) -> str:
        return f"<rukun.Lock {self._name!r} {self.state}>"
