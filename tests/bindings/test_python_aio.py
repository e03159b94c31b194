"""rukun.aio, against a node that answers as told."""

import asyncio
import inspect
import time

import pytest
import rukun
import rukun.aio
from fake_node import SILENCE, deliver, delivery


def run(coroutine, seconds=20):
    return asyncio.run(asyncio.wait_for(coroutine, seconds))


def test_same_names():
    for name in ("Lock", "Queue", "Job", "Cache"):
        plain, aio = getattr(rukun, name), getattr(rukun.aio, name)
        wanted = {attribute for attribute in vars(plain) if not attribute.startswith("_")}
        assert wanted - set(dir(aio)) <= {"encoding", "raw"}, name
    plain = {name for name in vars(rukun.Client) if not name.startswith("_")} - {"interrupt"}
    assert plain <= set(dir(rukun.aio.Client))
    plain = inspect.signature(rukun.Queue.consume).parameters
    assert inspect.signature(rukun.aio.Queue.consume).parameters.keys() == plain.keys()


def test_lock_queue_cache(node):
    node.answers |= {"lock.acquire": node.grant, "queue.publish": {"ok": True, "id": "m1"},
                     "queue.consume": deliver([delivery(1)], [delivery(2)]),
                     "queue.ack": {"ack": True}, "queue.nack": {"ok": True},
                     "cache.put": {"ok": True, "version": 1},
                     "cache.get": {"found": True, "value": 5, "version": 1}}

    async def main():
        async with await rukun.aio.connect(node.address) as client:
            async with client.lock("a", wait=5) as lock:
                lock.check()
                assert lock.state == "safe" and lock.fence > 0 and lock.left > 0
            assert lock.state == "released"

            @client.lock("b")
            async def locked(x):
                return x + 1
            assert await locked(1) == 2
            queue = client.queue("t")
            assert await queue.publish({"a": 1}) == "m1"
            with pytest.raises(KeyError):
                async for job in queue.consume(wait=0):
                    async with job:
                        if job.id == "d2":
                            raise KeyError("x")
            cache = client.cache()
            assert await cache.put("k", 5) == 1
            assert await cache.get("k") == 5
            assert (await client.cluster())["cluster"] == "fake"
    run(main())
    assert len(node.asked("lock.release")) == 2
    assert [fields["id"] for fields in node.asked("queue.ack")] == ["d1"]
    assert [fields["id"] for fields in node.asked("queue.nack")] == ["d2"]


def test_the_loop_runs_while_calls_wait(node):
    node.answers["lock.acquire"] = SILENCE

    async def main():
        async with await rukun.aio.connect(node.address, deadline=60) as client:
            waits = [asyncio.ensure_future(client.lock(f"l{i}").acquire()) for i in range(40)]
            began = time.monotonic()
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert time.monotonic() - began < 3
            assert not any(wait.done() for wait in waits)
            for wait in waits:
                wait.cancel()
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
    run(main())


def test_cancelling_ends_the_call_and_only_that(node):
    node.answers["lock.acquire"] = SILENCE

    async def main():
        async with await rukun.aio.connect(node.address, deadline=60) as client:
            first = asyncio.ensure_future(client.lock("a").acquire())
            second = asyncio.ensure_future(client.lock("b").acquire())
            await asyncio.to_thread(node.wait_asked, "lock.acquire", 2)
            began = time.monotonic()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert time.monotonic() - began < 2
            await asyncio.sleep(0.2)
            assert not second.done()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(second, 0.1)
    run(main())
    node.wait_asked("lock.cancel", 2)


def test_what_comes_as_it_is_cancelled_is_given_back(node):
    """The call ends well in the same moment in which its task is cancelled."""
    node.answers |= {"queue.consume": deliver([delivery(1)]), "queue.nack": {"ok": True},
                     "lock.acquire": node.grant}

    async def main():
        async with await rukun.aio.connect(node.address) as client:
            for call, undone in ((client.queue("t").take, "queue.nack"),
                                 (client.lock("a").acquire, "lock.release")):
                task = asyncio.ensure_future(call())
                await asyncio.sleep(0)  # it is on its way in a thread
                time.sleep(0.3)  # and done, of which the loop knows nothing yet
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert len(node.asked(undone)) == 1, undone
    run(main())


def test_one_wait_too_many_is_refused(node):
    node.answers |= {"lock.acquire": SILENCE,
                     "cache.get": {"found": True, "value": 5, "version": 1}}

    async def main():
        async with await rukun.aio.connect(node.address, waits=2, deadline=60) as client:
            waits = [asyncio.ensure_future(client.lock(f"l{i}").acquire()) for i in range(2)]
            await asyncio.to_thread(node.wait_asked, "lock.acquire", 2)
            with pytest.raises(rukun.Busy):
                await client.lock("l2").acquire()
            assert await client.cache().get("k") == 5  # other calls go on
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
    run(main())


def test_run(node):
    batches = [[delivery(1)], [delivery(2)], [delivery(3)]]

    def consume(fields):
        return {"messages": batches.pop(0)} if batches else SILENCE
    node.answers |= {"queue.consume": consume, "queue.ack": {"ack": True},
                     "queue.nack": {"ok": True}, "queue.extend": {"ok": True}}
    begun = []

    async def main():
        async with await rukun.aio.connect(node.address) as client:
            async def handle(job):
                begun.append(job.id)
                if job.id == "d2":
                    raise ValueError("no")
                if job.id == "d3":
                    await asyncio.sleep(30)
            task = asyncio.ensure_future(client.queue("t").run(handle, concurrency=2,
                                                               visibility=0.3))
            await asyncio.to_thread(node.wait_asked, "queue.extend", 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    run(main())
    assert sorted(begun) == ["d1", "d2", "d3"]
    assert [fields["id"] for fields in node.asked("queue.ack")] == ["d1"]
    assert sorted(fields["id"] for fields in node.asked("queue.nack")) == ["d2", "d3"]


def test_memoize(node):
    stored = {}

    def put(fields):
        stored[fields["key"]] = fields["value"]
        return {"ok": True, "version": 1}

    def get(fields):
        if fields["key"] not in stored:
            return {"found": False}
        return {"found": True, "value": stored[fields["key"]], "version": 1}
    node.answers |= {"cache.get": get, "cache.put": put, "lock.acquire": node.grant}
    computed = []

    async def main():
        async with await rukun.aio.connect(node.address) as client:
            @client.cache().memoize(ttl=60)
            async def square(x):
                computed.append(x)
                await asyncio.sleep(0.01)
                return x * x
            assert await square(3) == 9 and await square(3) == 9 and await square(4) == 16
    run(main())
    assert computed == [3, 4]
