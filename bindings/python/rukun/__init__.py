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
from .errors import *  # noqa: F403
from .errors import __all__ as _error_names
from .lock import Lock
from .queue import Job, Queue

__version__: str = _rukun.version()
__all__ = ["Cache", "Client", "Entry", "Job", "Lock", "Queue", *_error_names]
