"""A Redis that can not save what it holds takes no writes (MISCONF): calls wait for it, or are
refused as not done, and go on when it can again."""
import pathlib
import sys
import threading

import pytest
from redis_server import Redis, RedisError, wait_until

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from rukun_cluster import Cluster  # noqa: E402

PATIENT = {"Rukun-Deadline-Ms": "30000"}
SHORT = {"Rukun-Deadline-Ms": "400"}


class Saving(Redis):
    """Saves after every write. A folder in the place of its file stops that, for root as well."""

    def __init__(self):
        super().__init__(save="1 1")

    def _save_until(self, status):
        def is_so():
            try:
                self("BGSAVE")
            except RedisError as error:
                assert "already in progress" in str(error)
            return self.info("rdb_last_bgsave_status") == status
        wait_until(is_so, what=f"a save: {status}")

    def block(self):
        file = self.folder / "dump.rdb"
        self._save_until("ok")
        wait_until(lambda: self.info("rdb_bgsave_in_progress") == "0", what="no save goes on")
        file.unlink()
        file.mkdir()
        self._save_until("err")
        with pytest.raises(RedisError, match="^MISCONF"):
            self("SET", "more", "x")

    def heal(self):
        (self.folder / "dump.rdb").rmdir()
        self._save_until("ok")


@pytest.mark.sanitize
def test_calls_wait_while_redis_can_not_save(tmp_path):
    with Saving() as redis, Cluster(1, folder=tmp_path, flags=[
            "--engine", "redis", "--redis-url", redis.url()]) as cluster:
        node = cluster.wait_ready()["n1"]

        def post(path, headers=PATIENT, **fields):
            return node.post(path, fields, headers=headers, timeout=40)

        for name in ("held", "ready"):
            assert post("/queue/publish", topic="t", data=name).status == 200
        held = post("/queue/consume", topic="t")
        assert post("/cache/put", key="k", value="old").status == 200
        for name in ("short", "patient"):
            assert post("/lock/acquire", resource=name, owner="a", lease_ms=60000).status == 200
        redis.block()

        writes = {
            "/queue/publish": {"topic": "t", "data": "more"},
            "/queue/ack": {"id": held["id"]},
            "/queue/configure": {"topic": "t", "retry_ms": 5},
            "/cache/put": {"key": "k", "value": "new"},
        }
        for path, fields in writes.items():
            answer = post(path, SHORT, **fields)
            assert (answer.status, answer["outcome"]) == (503, "not_done"), answer
            assert "MISCONF" in answer["detail"]
        # A batch of locks is sent until Redis has it; what comes while one is out waits for it.
        short = post("/lock/release", SHORT, resource="short", owner="a")
        assert (short.status, short["outcome"]) in [(504, "unknown"), (503, "not_done")], short
        writes["/lock/release"] = {"resource": "patient", "owner": "a"}
        # What writes nothing is answered.
        assert post("/queue/info", SHORT, topic="t")["in_flight"] == 1
        assert post("/queue/peek", SHORT, topic="t").status == 200
        assert post("/queue/consume", SHORT, topic="none")["message"] is None
        assert post("/cache/get", SHORT, key="k", consistency="linearizable")["value"] == "old"

        connects = node.metric("rukun_redis_connects_total")
        answers = {}

        def run(path):
            answers[path] = post(path, **writes[path])

        threads = [threading.Thread(target=run, args=[path], daemon=True) for path in writes]
        for thread in threads:
            thread.start()
        repeated = node.metric("rukun_redis_repeated_total")
        wait_until(lambda: node.metric("rukun_redis_repeated_total") > repeated + 30,
                   what="calls are tried again")
        assert not answers
        redis.heal()
        for thread in threads:
            thread.join(40)
        assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(
            writes, 200)
        assert post("/cache/get", key="k", consistency="linearizable")["value"] == "new"
        assert [post("/queue/consume", topic="t")["message"] for _ in range(3)] == [
            "ready", "more", None]
        assert post("/lock/acquire", resource="patient", owner="b").status == 200
        assert post("/lock/acquire", resource="short", owner="b").status == \
            (200 if short["outcome"] == "unknown" else 409)
        assert node.metric("rukun_redis_connects_total") == connects
        wait_until(node.is_ready, what="ready")
