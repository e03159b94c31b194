"""Rukun for asyncio: the names of `rukun`, to be awaited.

    async with await rukun.aio.connect("127.0.0.1:7501") as client:
        async with client.lock("orders/42", wait=5) as lock:
            ...
        async for job in client.queue("mail").consume():
            async with job:
                await send(job.data)

Calls run in threads, so the loop never waits. Calls that may wait long (for a lock, for a
message) have threads of their own, at most `waits` at a time, and one more is refused with
Busy: to queue it behind the others could be a deadlock, for those may wait for what its
caller holds. Cancelling a task ends the call that it waits for: its thread notices within
50 ms, and what the call got at the same moment is given back before CancelledError goes
on, so no lock is left held and no job is left waiting for its timeout."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from . import _rukun, errors
from . import cache as _cache
from . import client as _client
from . import lock as _lock
from . import queue as _queue

P = ParamSpec("P")
R = TypeVar("R")


class _Threads:
    """Where the calls of one client run."""

    def __init__(self, waits: int, calls: int):
        self._waits_max = waits
        self._waits = 0
        self._wait_pool = concurrent.futures.ThreadPoolExecutor(waits, "rukun-wait")
        self._call_pool = concurrent.futures.ThreadPoolExecutor(calls, "rukun-call")

    async def call(self, function: Callable[..., R], *arguments: Any, **named: Any) -> R:
        """A call that ends soon; it is never abandoned half-way."""
        return await self._run(self._call_pool, functools.partial(function, *arguments,
                                                                  **named), None)

    async def wait(self, function: Callable[..., R], *arguments: Any,
                   undo: Callable[[R], Any] | None = None, **named: Any) -> R:
        """A call that may wait; undo(result) takes back what came as it was cancelled."""
        if self._waits >= self._waits_max:
            raise errors.make(_rukun.EBUSY, f"{self._waits} calls wait already, the limit of "
                                            "this client (waits)")
        self._waits += 1
        try:
            return await self._run(self._wait_pool, functools.partial(function, *arguments,
                                                                      **named), undo)
        finally:
            self._waits -= 1

    async def _run(self, pool: concurrent.futures.Executor, call: Callable[[], R],
                   undo: Callable[[R], Any] | None) -> R:
        cancel = _rukun.cancel()

        def run() -> R:
            _rukun.cancel_use(cancel)
            try:
                return call()
            finally:
                _rukun.cancel_use(None)

        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(pool, run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            cancel.set()
            await self._finish(future, undo)
            raise

    async def _finish(self, future: asyncio.Future[R],
                      undo: Callable[[R], Any] | None) -> None:
        """Waits for the cancelled call's thread, even if cancelled again."""
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if future.cancelled() or future.exception() is not None or undo is None:
            return
        # Its own thread: the pools may be full of calls that wait for this very thing.
        loop = asyncio.get_running_loop()
        undoing = loop.run_in_executor(None, _quietly, undo, future.result())
        while not undoing.done():
            try:
                await asyncio.wait([undoing])
            except asyncio.CancelledError:
                continue

    def end(self) -> None:
        self._wait_pool.shutdown(wait=False)
        self._call_pool.shutdown(wait=False)


def _quietly(function: Callable[[Any], Any], argument: Any) -> None:
    try:
        function(argument)
    except errors.Error:
        pass


async def connect(endpoints: str | Iterable[str] | None = None, *, waits: int = 256,
                  calls: int = 16, **options: Any) -> Client:
    """A client; the arguments are those of `rukun.Client`, and the numbers of threads:
    `waits` for calls that may wait, `calls` for all others."""
    threads = _Threads(waits, calls)
    try:
        inner = await threads.wait(_client.Client, endpoints, undo=_client.Client.close,
                                   **options)
    except BaseException:
        threads.end()
        raise
    return Client(inner, threads)


class Client:
    """A client for asyncio; made by `connect`. See `rukun.Client`."""

    def __init__(self, inner: _client.Client, threads: _Threads):
        self._inner = inner
        self._threads = threads

    async def close(self) -> None:
        try:
            await self._threads.call(self._inner.close)
        finally:
            self._threads.end()

    def lock(self, name: str, **options: Any) -> Lock:
        return Lock(self._inner.lock(name, **options), self._threads)

    def queue(self, topic: str) -> Queue:
        return Queue(self._inner.queue(topic), self._threads)

    def cache(self, name: str = "") -> Cache:
        return Cache(self._inner.cache(name), self._threads)

    async def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        run = self._threads.wait if fields.get("wait_ms") else self._threads.call
        return await run(self._inner.call, operation, **fields)

    async def cluster(self) -> dict[str, Any]:
        return await self._threads.call(self._inner.cluster)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None,
                        error: BaseException | None,
                        trace: types.TracebackType | None) -> None:
        await self.close()


class Lock:
    """See `rukun.Lock`. fence, owner, state, left and check() need no network, so they are
    not awaited."""

    def __init__(self, inner: _lock.Lock, threads: _Threads):
        self._inner = inner
        self._threads = threads

    async def acquire(self, wait: float | None | types.EllipsisType = ...) -> Lock:
        await self._threads.wait(self._inner.acquire, wait, undo=_lock.Lock.release)
        return self

    async def release(self) -> None:
        await self._threads.call(self._inner.release)

    def check(self) -> None:
        self._inner.check()

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def fence(self) -> int:
        return self._inner.fence

    @property
    def owner(self) -> str:
        return self._inner.owner

    @property
    def state(self) -> str:
        return self._inner.state

    @property
    def left(self) -> float:
        return self._inner.left

    async def __aenter__(self) -> Lock:
        return await self.acquire()

    async def __aexit__(self, kind: type[BaseException] | None,
                        error: BaseException | None,
                        trace: types.TracebackType | None) -> None:
        await self._threads.call(self._inner.__exit__, kind, error, trace)

    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(function)
        async def locked(*arguments: P.args, **named: P.kwargs) -> R:
            inner = _lock.Lock(self._inner._client, self._inner._name, self._inner._wait,
                               self._inner._options)
            async with Lock(inner, self._threads):
                return await function(*arguments, **named)
        return locked


class Job:
    """See `rukun.Job`."""

    def __init__(self, inner: _queue.Job, threads: _Threads):
        self._inner = inner
        self._threads = threads
        self.id = inner.id
        self.message_id = inner.message_id
        self.attempt = inner.attempt

    @property
    def data(self) -> Any:
        return self._inner.data

    @property
    def is_settled(self) -> bool:
        return self._inner.is_settled

    async def ack(self) -> None:
        await self._threads.call(self._inner.ack)

    async def nack(self, delay: float | None = None) -> None:
        await self._threads.call(self._inner.nack, delay)

    async def extend(self, visibility: float) -> None:
        await self._threads.call(self._inner.extend, visibility)

    def keep(self) -> Job:
        self._inner.keep()
        return self

    async def __aenter__(self) -> Job:
        self._inner.__enter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None,
                        error: BaseException | None,
                        trace: types.TracebackType | None) -> None:
        await self._threads.call(self._inner.__exit__, kind, error, trace)


def _give_back(jobs: list[_queue.Job]) -> None:
    for job in jobs:
        job._give_back()


class Queue:
    """See `rukun.Queue`."""

    def __init__(self, inner: _queue.Queue, threads: _Threads):
        self._inner = inner
        self._threads = threads

    @property
    def topic(self) -> str:
        return self._inner.topic

    async def publish(self, data: Any, **options: Any) -> str:
        return await self._threads.call(self._inner.publish, data, **options)

    async def publish_many(self, data: Iterable[Any], **options: Any) -> list[str]:
        return await self._threads.call(self._inner.publish_many, data, **options)

    async def take(self, *, visibility: float | None = None, max: int = 1,
                   wait: float | None = 0) -> list[Job]:
        taken = await self._threads.wait(self._inner.take, undo=_give_back, max=max,
                                         visibility=visibility, wait=wait)
        return [Job(job, self._threads) for job in taken]

    async def consume(self, *, visibility: float | None = None, max: int = 1,
                      wait: float | None = None) -> AsyncGenerator[Job, None]:
        """As `rukun.Queue.consume`. A loop that is left early keeps its generator until the
        loop's end: use `contextlib.aclosing` where that matters."""
        seconds = visibility
        if seconds is None and max > 1:
            seconds = await self._threads.call(self._inner._visibility)
        while True:
            taken = await self.take(visibility=visibility, max=max, wait=wait)
            if not taken:
                return
            taken.reverse()
            try:
                while taken:
                    job = taken.pop()
                    if seconds is not None and not await self._threads.call(
                            self._inner._is_fresh, job._inner, seconds):
                        continue
                    try:
                        yield job
                    finally:
                        await self._threads.call(job._inner._give_back)
            finally:
                if taken:
                    await self._threads.call(_give_back, [job._inner for job in taken])

    async def run(self, handle: Callable[[Job], Awaitable[Any]], *, concurrency: int = 8,
                  visibility: float | None = None) -> None:
        """Awaits handle(job) for each message, `concurrency` at a time, until the task is
        cancelled; then handlers that are under way are cancelled, too, and their jobs given
        back."""
        if visibility is None:
            visibility = await self._threads.call(self._inner._visibility)
        seconds: float = visibility
        workers = [asyncio.ensure_future(self._work(handle, seconds))
                   for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, handle: Callable[[Job], Awaitable[Any]], visibility: float) -> None:
        pause = 0.1
        while True:
            try:
                jobs = await self.take(visibility=visibility, wait=_queue._POLL_SECONDS)
                pause = 0.1
            except errors.Closed:
                return
            except errors.Error as error:
                _queue.log.warning("rukun: %s: cannot consume: %s", self.topic, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _queue._RETRY_SECONDS_MAX)
                continue
            for job in jobs:
                await self._process(handle, job, visibility)

    async def _process(self, handle: Callable[[Job], Awaitable[Any]], job: Job,
                       visibility: float) -> None:
        keeper = asyncio.ensure_future(self._keep(job, visibility))
        try:
            async with job:
                await handle(job)
        except errors.Error as error:
            _queue.log.warning("rukun: %s: %r: %s", self.topic, job._inner, error)
        except Exception:
            _queue.log.exception("rukun: %s: %r failed and is given back", self.topic,
                                 job._inner)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    @staticmethod
    async def _keep(job: Job, visibility: float) -> None:
        while True:
            await asyncio.sleep(visibility / 3)
            try:
                await job.extend(visibility)
            except errors.Error as error:
                if not job.is_settled:
                    _queue.log.warning("rukun: %r cannot be extended: %s", job._inner, error)

    async def info(self) -> dict[str, Any]:
        return await self._threads.call(self._inner.info)

    async def stats(self) -> dict[str, Any]:
        return await self._threads.call(self._inner.stats)

    async def configure(self, **settings: Any) -> None:
        await self._threads.call(self._inner.configure, **settings)

    async def pause(self) -> None:
        await self._threads.call(self._inner.pause)

    async def resume(self) -> None:
        await self._threads.call(self._inner.resume)

    async def purge(self, *, dead: bool = False) -> int:
        return await self._threads.call(self._inner.purge, dead=dead)

    async def redrive(self, **options: Any) -> int:
        return await self._threads.call(self._inner.redrive, **options)


class Cache:
    """See `rukun.Cache`."""

    def __init__(self, inner: _cache.Cache, threads: _Threads):
        self._inner = inner
        self._threads = threads

    @property
    def name(self) -> str:
        return self._inner.name

    async def get(self, key: str, default: Any = None) -> Any:
        return await self._threads.call(self._inner.get, key, default)

    async def entry(self, key: str) -> _cache.Entry | None:
        return await self._threads.call(self._inner.entry, key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return await self._threads.call(self._inner.get_many, keys)

    async def put(self, key: str, value: Any, **options: Any) -> int:
        return await self._threads.call(self._inner.put, key, value, **options)

    async def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return await self._threads.call(self._inner.delete, key, if_version=if_version)

    async def delete_many(self, keys: Iterable[str]) -> int:
        return await self._threads.call(self._inner.delete_many, keys)

    async def add(self, key: str, delta: int = 1, **options: Any) -> int:
        return await self._threads.call(self._inner.add, key, delta, **options)

    async def touch(self, key: str, ttl: float) -> bool:
        return await self._threads.call(self._inner.touch, key, ttl)

    async def invalidate(self, prefix: str | None = None) -> int:
        return await self._threads.call(self._inner.invalidate, prefix)

    async def stats(self) -> dict[str, Any]:
        return await self._threads.call(self._inner.stats)

    async def configure(self, **settings: Any) -> None:
        await self._threads.call(self._inner.configure, **settings)

    def memoize(self, ttl: float, *, stale: float = 0, name: str | None = None,
                wait: float | None = 30,
                ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """As `rukun.Cache.memoize`, for a coroutine function."""
        def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
            title = name or f"{function.__module__}.{function.__qualname__}"
            memo = _cache._Memo(self._inner, title, ttl, stale, wait)

            @functools.wraps(function)
            async def remembered(*arguments: P.args, **named: P.kwargs) -> R:
                loop = asyncio.get_running_loop()

                def compute() -> R:
                    coroutine = function(*arguments, **named)
                    return asyncio.run_coroutine_threadsafe(_await(coroutine), loop).result()
                return await self._threads.wait(memo.get, memo.key(arguments, named), compute)
            return remembered
        return decorate


async def _await(thing: Awaitable[R]) -> R:
    return await thing
