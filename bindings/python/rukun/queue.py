"""Queues."""

from __future__ import annotations

import logging
import threading
import time
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _rukun, errors, values

if TYPE_CHECKING:
    from .client import Client

log = logging.getLogger("rukun")

#: Where the topic's own visibility timeout cannot be read.
_VISIBILITY_DEFAULT = 30.0
_POLL_SECONDS = 20.0
_RETRY_SECONDS_MAX = 5.0


class Job:
    """One delivery of a message.

        with job:
            handle(job.data)

    A normal exit acknowledges, an exception gives the message back with the topic's backoff
    (and goes on), KeyboardInterrupt and its kin give it back at once. A job that is neither
    entered nor settled when its loop asks for the next one is given back as well, never
    acknowledged; `keep()` prevents that, for a job that another thread is to finish."""

    def __init__(self, client: Client, id: str, message_id: str, attempt: int, data: bytes,
                 encoding: int, received: float):
        self._client = client
        self.id = id
        self.message_id = message_id
        self.attempt = attempt
        self.encoding = encoding
        self.raw = data
        self._received = received
        self._data: Any = ...
        self._is_kept = False
        self.is_settled = False

    @property
    def data(self) -> Any:
        """What was published: an object, or bytes."""
        if self._data is ...:
            self._data = values.decode(self.raw, self.encoding)
        return self._data

    def ack(self) -> None:
        """The message is done. StaleDelivery: it was delivered again since, and is not."""
        _rukun.queue_ack(self._client._handle(), self.id)
        self.is_settled = True

    def nack(self, delay: float | None = None) -> None:
        """Gives the message back, to be ready after `delay` seconds; None: the topic's
        backoff."""
        _rukun.queue_nack(self._client._handle(), self.id, values.wait_milliseconds(delay))
        self.is_settled = True

    def extend(self, visibility: float) -> None:
        """From now on the message stays out of others' sight for that many seconds."""
        _rukun.queue_extend(self._client._handle(), self.id,
                            values.milliseconds(visibility, "visibility"))

    def keep(self) -> Job:
        """The loop that gave this job does not give it back; whoever has it settles it."""
        self._is_kept = True
        return self

    def _give_back(self) -> None:
        """What cannot be told to the node now, the visibility timeout tells it later."""
        if self.is_settled or self._is_kept:
            return
        try:
            self.nack(0)
        except errors.Error as error:
            log.debug("rukun: %s could not be given back: %s", self.id, error)

    def __enter__(self) -> Job:
        self._is_kept = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        if self.is_settled:
            return
        if error is None:
            self.ack()
            return
        try:
            self.nack(None if isinstance(error, Exception) else 0)
        except errors.Error as second:
            log.debug("rukun: %s could not be given back: %s", self.id, second)

    def __repr__(self) -> str:
        return f"<rukun.Job {self.id} attempt {self.attempt}>"


class Queue:
    """The queue of one topic; made by `Client.queue`."""

    def __init__(self, client: Client, topic: str):
        self._client = client
        self._topic = topic

    @property
    def topic(self) -> str:
        return self._topic

    def publish(self, data: Any, *, id: str | None = None, group: str | None = None,
                delay: float = 0, priority: int = 0, ttl: float | None = None) -> str:
        """Puts a message into the topic, durably; returns its id.

        data: bytes, or what has a JSON form.
        id: of this publish; another one of the same id within the topic's window adds
            nothing and returns the first one's message id.
        group: messages of one group are delivered one after the other, in order.
        delay, ttl: seconds. priority: 0 to 9, 9 first.

        OutcomeUnknown: perhaps published; the same call with the same `id` is harmless."""
        return _rukun.queue_publish(self._client._handle(), self._topic,
                                    values.encode(data),
                                    self._publish_options(id, group, delay, priority, ttl))

    def publish_many(self, data: Iterable[Any], *, ids: Iterable[str] | None = None,
                     group: str | None = None, delay: float = 0, priority: int = 0,
                     ttl: float | None = None) -> list[str]:
        """Puts messages into the topic, in this order, all or none; 1 to 1000. `ids` has one
        publish id for each; returns the message ids."""
        messages = [values.encode(item) for item in data]
        options = self._publish_options(None, group, delay, priority, ttl)
        if ids is None:
            return _rukun.queue_publish_many(self._client._handle(), self._topic, messages,
                                             options)
        return self._publish_with_ids(messages, list(ids), options)

    def _publish_with_ids(self, messages: list[tuple[bytes, int]], ids: list[str],
                          options: dict[str, Any]) -> list[str]:
        if len(ids) != len(messages):
            raise ValueError(f"ids: {len(ids)} for {len(messages)} messages")
        lines = []
        for (data, encoding), publish_id in zip(messages, ids):
            if encoding != _rukun.JSON:
                raise TypeError("publish_many: ids go with JSON data only; publish() takes "
                                "bytes with an id")
            lines.append({"data": values.decode(data, encoding), "publish_id": publish_id,
                          **options})
        return self._client.call("queue.publish", topic=self._topic, messages=lines)["ids"]

    @staticmethod
    def _publish_options(id: str | None, group: str | None, delay: float, priority: int,
                         ttl: float | None) -> dict[str, Any]:
        return values.options(
            publish_id=id, group=group, priority=priority or None,
            delay_ms=values.milliseconds(delay, "delay") or None,
            ttl_ms=None if ttl is None else values.milliseconds(ttl, "ttl"))

    def take(self, *, visibility: float | None = None, max: int = 1,
             wait: float | None = 0) -> list[Job]:
        """Up to `max` jobs; none if there are none within the wait. Whoever takes them
        settles them."""
        handle = self._client._handle()
        deliveries = _rukun.queue_consume(handle, self._topic, values.options(
            max=max, visibility_ms=None if visibility is None
            else values.milliseconds(visibility, "visibility"))
            | {"wait_ms": values.wait_milliseconds(wait)})
        received = time.monotonic()
        return [Job(self._client, _rukun.delivery_id(deliveries, i),
                    _rukun.delivery_message_id(deliveries, i),
                    _rukun.delivery_attempt(deliveries, i),
                    _rukun.delivery_data(deliveries, i),
                    _rukun.delivery_encoding(deliveries, i), received)
                for i in range(_rukun.deliveries_count(deliveries))]

    def consume(self, *, visibility: float | None = None, max: int = 1,
                wait: float | None = None) -> Generator[Job, None, None]:
        """Jobs as they come; ends when none came for `wait` seconds (None: never).

        visibility: seconds a job stays out of others' sight; by default the topic's.
        max: how many to take at a time. Those that wait here for their turn are extended
            as it comes, and dropped unprocessed if their time ran out before."""
        seconds = visibility
        if seconds is None and max > 1:
            seconds = self._visibility()
        while True:
            taken = self.take(visibility=visibility, max=max, wait=wait)
            if not taken:
                return
            yield from self._one_by_one(taken, seconds)

    def _one_by_one(self, taken: list[Job],
                    visibility: float | None) -> Generator[Job, None, None]:
        taken.reverse()
        try:
            while taken:
                job = taken.pop()
                if visibility is None or self._is_fresh(job, visibility):
                    try:
                        yield job
                    finally:
                        job._give_back()
        finally:
            for job in reversed(taken):
                job._give_back()

    @staticmethod
    def _is_fresh(job: Job, visibility: float) -> bool:
        """Its visibility began when it was taken, so later ones of a batch get it anew."""
        age = time.monotonic() - job._received
        if age < visibility / 4:
            return True
        try:
            job.extend(visibility)
        except (errors.StaleDelivery, errors.Gone):
            return False
        return True

    def _visibility(self) -> float:
        try:
            return self.info().get("visibility_ms", 0) / 1000 or _VISIBILITY_DEFAULT
        except errors.NotFound:
            return _VISIBILITY_DEFAULT

    def run(self, handle: Callable[[Job], Any], *, concurrency: int = 8,
            visibility: float | None = None, stop: threading.Event | None = None) -> None:
        """Calls handle(job) for each message, in `concurrency` threads, until `stop` is set
        or Ctrl-C; then what is under way is finished, and nothing new is begun.

        While a handler works, the visibility of its job is extended. A normal return
        acknowledges, an exception gives the message back with backoff and is logged."""
        Runner(self, handle, concurrency, visibility, stop).run()

    def info(self) -> dict[str, Any]:
        """State and settings of the topic."""
        return self._client.call("queue.info", topic=self._topic)

    def stats(self) -> dict[str, Any]:
        """Counters of the topic."""
        return self._client.call("queue.stats", topic=self._topic)

    def configure(self, **settings: Any) -> None:
        """Settings as in the API reference: visibility_ms, deliveries_max ..."""
        self._client.call("queue.configure", topic=self._topic, **settings)

    def pause(self) -> None:
        """Nothing is handed out any more; publishing goes on."""
        self._client.call("queue.pause", topic=self._topic)

    def resume(self) -> None:
        self._client.call("queue.resume", topic=self._topic)

    def purge(self, *, dead: bool = False) -> int:
        """Removes all messages, or all dead letters; how many."""
        return self._client.call("queue.purge", topic=self._topic, dead=dead)["count"]

    def redrive(self, *, to: str | None = None, limit: int | None = None) -> int:
        """Puts dead letters back; how many."""
        fields: Mapping[str, Any] = values.options(to=to, limit=limit)
        return self._client.call("queue.redrive", topic=self._topic, **fields)["count"]

    def __repr__(self) -> str:
        return f"<rukun.Queue {self._topic!r}>"


class Runner:
    """The threads of one `Queue.run`."""

    def __init__(self, queue: Queue, handle: Callable[[Job], Any], concurrency: int,
                 visibility: float | None, stop: threading.Event | None):
        if concurrency < 1:
            raise ValueError(f"concurrency: {concurrency} is below 1")
        self._queue = queue
        self._handle = handle
        self._given = visibility
        self._visibility = queue._visibility() if visibility is None else visibility
        self._stop = stop or threading.Event()
        self._is_ending = threading.Event()
        self._cancels = [_rukun.cancel() for _ in range(concurrency)]
        self._active: dict[Job, float] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        threads = [threading.Thread(target=self._work, args=(cancel,), daemon=True,
                                    name=f"rukun-{self._queue.topic}-{i}")
                   for i, cancel in enumerate(self._cancels)]
        keeper = threading.Thread(target=self._keep, daemon=True, name="rukun-extend")
        try:
            for thread in [keeper, *threads]:
                thread.start()
            while not self._stop.wait(0.2):
                if not any(thread.is_alive() for thread in threads):
                    break
        finally:
            self._is_ending.set()
            for cancel in self._cancels:
                cancel.set()
            for thread in threads:
                if thread.is_alive():
                    thread.join()
            if keeper.is_alive():
                keeper.join()

    def _work(self, cancel: Any) -> None:
        pause = 0.1
        while not self._is_ending.is_set():
            _rukun.cancel_use(cancel)
            try:
                jobs = self._queue.take(visibility=self._given, wait=_POLL_SECONDS)
                pause = 0.1
            except (errors.Cancelled, errors.Closed):
                return
            except errors.Error as error:
                log.warning("rukun: %s: cannot consume: %s", self._queue.topic, error)
                self._is_ending.wait(pause)
                pause = min(pause * 2, _RETRY_SECONDS_MAX)
                continue
            finally:
                _rukun.cancel_use(None)  # what follows is to be finished
            for job in jobs:
                self._process(job)

    def _process(self, job: Job) -> None:
        with self._lock:
            self._active[job] = time.monotonic()
        try:
            with job:
                self._handle(job)
        except errors.Error as error:
            log.warning("rukun: %s: %r: %s", self._queue.topic, job, error)
        except Exception:
            log.exception("rukun: %s: %r failed and is given back", self._queue.topic, job)
        finally:
            with self._lock:
                self._active.pop(job, None)

    def _keep(self) -> None:
        period = self._visibility / 3
        while True:
            with self._lock:
                now = time.monotonic()
                due = [job for job, since in self._active.items() if now - since >= period]
                is_over = self._is_ending.is_set() and not self._active
            if is_over:
                return
            for job in due:
                self._extend(job)
            self._is_ending.wait(min(period / 4, 1.0))
            if self._is_ending.is_set():
                time.sleep(min(period / 4, 0.05))

    def _extend(self, job: Job) -> None:
        with self._lock:
            if job not in self._active or job.is_settled:
                return
            self._active[job] = time.monotonic()
        try:
            job.extend(self._visibility)
        except errors.Error as error:
            if not job.is_settled:
                log.warning("rukun: %r cannot be extended: %s", job, error)
