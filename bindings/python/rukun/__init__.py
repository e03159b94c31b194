"""Rukun: locks, queues and caches for processes on many machines.

    import rukun

    client = rukun.Client("127.0.0.1:7501")

    with client.lock("orders/42", wait=5) as lock:
        db.write(order, fence=lock.fence)

    queue = client.queue("mail")
    queue.publish({"to": "ada@example.org"})
    for job in queue.consume(visibility=30):
        with job:
            send(job.data)

    cache = client.cache()
    cache.put("greeting", "hello", ttl=60)

Durations are seconds. Failures are exceptions, subclasses of `rukun.Error`. For asyncio
there is `rukun.aio`."""

from . import _rukun
from .cache import Cache, Entry
from .client import Client
from .errors import (
    Busy, Cancelled, CannotConnect, Closed, Corrupt, Deadlock, Dropped, Error, Exists,
    Forbidden, Forked, Full, Gone, InputOutputError, Invalid, LimitReached, LockHeld,
    LockLost, LockTimeout, MethodNotAllowed, NotConvertible, NotFound, NotLeader,
    NotOwner, OutOfBounds, OutOfMemory, OutcomeUnknown, Paused, ProtocolError,
    SessionExpired, StaleDelivery, StaleFence, TooLarge, Unauthorized, Unavailable,
    Unsupported, UnsupportedMedia, VersionMismatch, VoidToken,
)
from .lock import Lock
from .queue import Job, Queue

__version__: str = _rukun.version()
__all__ = [
    "Busy", "Cache", "Cancelled", "CannotConnect", "Client", "Closed", "Corrupt",
    "Deadlock", "Dropped", "Entry", "Error", "Exists", "Forbidden", "Forked", "Full",
    "Gone", "InputOutputError", "Invalid", "Job", "LimitReached", "Lock", "LockHeld",
    "LockLost", "LockTimeout", "MethodNotAllowed", "NotConvertible", "NotFound",
    "NotLeader", "NotOwner", "OutOfBounds", "OutOfMemory", "OutcomeUnknown", "Paused",
    "ProtocolError", "Queue", "SessionExpired", "StaleDelivery", "StaleFence",
    "TooLarge", "Unauthorized", "Unavailable", "Unsupported", "UnsupportedMedia",
    "VersionMismatch", "VoidToken",
]
