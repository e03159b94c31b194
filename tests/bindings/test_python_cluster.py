"""What only real nodes can show of the Python layer."""

import asyncio
import multiprocessing
import threading
import time
import uuid

import pytest
import rukun
import rukun.aio


@pytest.fixture
def endpoints(cluster):
    return [node.rpc for node in cluster]


@pytest.fixture
def client(endpoints):
    with rukun.Client(endpoints) as made:
        yield made


@pytest.fixture
def name():
    return "test/" + uuid.uuid4().hex


def test_threads_exclude_each_other(client, name):
    inside = []
    fences = []

    def work():
        for _ in range(5):
            with client.lock(name) as lock:
                inside.append(1)
                assert len(inside) == 1
                fences.append(lock.fence)
                time.sleep(0.002)
                inside.pop()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fences) == 20 and fences == sorted(set(fences))


def test_shared_locks_share(client, name):
    with client.lock(name, shared=True), client.lock(name, shared=True, wait=0):
        with pytest.raises(rukun.LockHeld):
            client.lock(name, wait=0).acquire()
    with client.lock(name, wait=5):
        pass


def test_deadlock_is_found(client, name):
    first, second = client.lock(name + "/1", owner="a"), client.lock(name + "/2", owner="b")
    first.acquire()
    second.acquire()
    ended = []

    def cross():
        try:
            client.lock(name + "/2", owner="a", wait=20).acquire().release()
        except rukun.Deadlock as error:
            ended.append(error)
        first.release()
    thread = threading.Thread(target=cross)
    thread.start()
    began = time.monotonic()
    try:
        client.lock(name + "/1", owner="b", wait=20).acquire().release()
    except rukun.Deadlock as error:
        ended.append(error)
    second.release()
    thread.join()
    assert len(ended) == 1 and time.monotonic() - began < 10
    assert name in str(ended[0])


def test_a_dead_process_leaves_its_lock(endpoints, client, name):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(endpoints, name, ready))
    process.start()
    assert ready.wait(20)
    with pytest.raises(rukun.LockHeld):
        client.lock(name, wait=0).acquire()
    process.kill()
    process.join()
    began = time.monotonic()
    with client.lock(name, wait=20):
        assert time.monotonic() - began < 8  # its session lived 2 s


def hold(endpoints, name, ready):
    client = rukun.Client(endpoints, session_ttl=2)
    lock = client.lock(name).acquire()
    ready.set()
    time.sleep(60)
    lock.release()


def test_publish_consume_many(client, name):
    queue = client.queue(name)
    ids = []
    for start in range(0, 300, 100):
        ids += queue.publish_many([{"n": n} for n in range(start, start + 100)])
    assert len(set(ids)) == 300
    seen = []
    for job in queue.consume(max=64, wait=0.5, visibility=30):
        with job:
            seen.append(job.data["n"])
    assert sorted(seen) == list(range(300))
    assert seen == sorted(seen)
    stats = queue.stats()
    assert stats["ready"] == stats["in_flight"] == 0 and stats["acked"] == 300


def test_publish_ids(client, name):
    queue = client.queue(name)
    first = queue.publish_many(["a", "b"], ids=["1", "2"])
    assert queue.publish_many(["a", "b"], ids=["1", "2"]) == first
    assert [job.data for job in queue.take(max=10)] == ["a", "b"]


def test_failed_job_comes_back(client, name):
    queue = client.queue(name)
    queue.configure(retry_ms=50)
    queue.publish("x")
    attempts = []
    while len(attempts) < 3:
        try:
            for job in queue.consume(wait=5):
                with job:
                    attempts.append(job.attempt)
                    if len(attempts) < 3:
                        raise ValueError
                break
        except ValueError:
            pass
    assert attempts == [1, 2, 3]
    assert queue.take(wait=0.2) == []


def test_dead_letters_and_redrive(client, name):
    queue = client.queue(name)
    queue.configure(deliveries_max=2, retry_ms=1)
    queue.publish("x")
    for _ in range(2):
        (job,) = queue.take(wait=5)
        job.nack(0)
    assert queue.take(wait=0.3) == []
    assert queue.info()["dead"] == 1
    assert queue.redrive() == 1
    assert [job.data for job in queue.take(wait=5)] == ["x"]


def test_run(client, name):
    queue = client.queue(name)
    queue.configure(retry_ms=10)
    queue.publish_many(list(range(50)))
    stop = threading.Event()
    done = []

    def handle(job):
        if job.data % 10 == 0 and job.attempt == 1:
            raise ValueError("first attempt")
        if job.data == 7:
            time.sleep(1.5)  # longer than its visibility
        done.append(job.data)
        if len(done) == 50:
            stop.set()
    queue.run(handle, concurrency=4, visibility=0.6, stop=stop)
    assert sorted(done) == list(range(50))


def test_memoize_over_processes(endpoints, client, name):
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        results = pool.starmap(compute, [(endpoints, name)] * 6, chunksize=1)
    assert len(set(results)) == 1
    assert client.cache().get(name + "/computed") == 1


def compute(endpoints, name):
    with rukun.Client(endpoints) as client:
        cache = client.cache()

        @cache.memoize(ttl=60, name=name)
        def answer(question):
            time.sleep(0.2)
            return cache.add(name + "/computed")
        return answer("?")


def test_stale_values(client, name):
    cache = client.cache()
    cache.put(name, 1, ttl=60, soft_ttl=0.2)
    assert not cache.entry(name).is_stale
    end = time.monotonic() + 5
    while not cache.entry(name).is_stale:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert cache.get(name) == 1


def test_fences_protect(client, name):
    cache = client.cache()
    with client.lock(name) as lock:
        old = lock.fence
    with client.lock(name) as lock:
        cache.put(name, "new", fence=lock.fence)
    with pytest.raises(rukun.StaleFence):
        cache.put(name, "old", fence=old)
    assert cache.get(name) == "new"


def test_values_of_all_forms(client, name):
    cache = client.cache("forms")
    for value in (None, 1 << 53, -1.5, "grüße", b"\0\xff", [1, {"a": []}], {}):
        cache.put(name, value)
        assert cache.get(name) == value
    assert cache.get_many([name, name + "/none"]) == {name: {}}
    assert cache.delete_many([name, name + "/none"]) == 1


def test_aio(endpoints, name):
    async def main():
        async with await rukun.aio.connect(endpoints) as client:
            inside = 0

            async def work():
                nonlocal inside
                async with client.lock(name):
                    inside += 1
                    assert inside == 1
                    await asyncio.sleep(0.005)
                    inside -= 1
            await asyncio.gather(*(work() for _ in range(20)))
            queue = client.queue(name)
            await asyncio.gather(*(queue.publish(n) for n in range(20)))
            seen = []
            async for job in queue.consume(wait=0.3):
                async with job:
                    seen.append(job.data)
            assert sorted(seen) == list(range(20))
            # Cancelled while it waits: the next in line is not kept waiting by it.
            async with client.lock(name):
                waiting = asyncio.ensure_future(client.lock(name).acquire())
                await asyncio.sleep(0.2)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            async with client.lock(name, wait=2):
                pass
    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_lost_lock_is_known_while_no_node_answers(name):
    from rukun_cluster import Cluster
    with Cluster() as nodes:
        nodes.wait_ready()
        with rukun.Client([node.rpc for node in nodes], session_ttl=2, deadline=20) as client:
            lock = client.lock(name).acquire()
            fence = lock.fence
            for node in nodes:
                node.pause()
            seen = []
            end = time.monotonic() + 10
            while lock.state != "lost":
                if lock.state not in seen:
                    seen.append(lock.state)
                assert time.monotonic() < end
                time.sleep(0.01)
            assert seen[-1] == "jeopardy" and lock.left == 0
            with pytest.raises(rukun.LockLost):
                lock.check()
            # Whoever works on with a lease of 2 s believes so for less than 2 s.
            for node in nodes:
                node.resume()
            with client.lock(name, wait=15) as again:
                assert again.fence > fence
            with pytest.raises(rukun.Error):
                lock.release()


def test_calls_go_on_when_a_leader_dies(name):
    from rukun_cluster import Cluster
    with Cluster() as nodes:
        nodes.wait_ready()
        with rukun.Client(nodes.nodes[0].rpc, deadline=20) as client:
            cache = client.cache()
            lock = client.lock(name).acquire()
            keys = [f"{name}/{n}" for n in range(40)]
            for key in keys:
                cache.put(key, 1)
            nodes.leader(0).kill()
            for key in keys:
                assert cache.get(key) == 1
                cache.put(key, 2)
            lock.check()  # the session is kept alive at the new leader
            lock.release()
            with client.lock(name, wait=5):
                pass
