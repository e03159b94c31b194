"""The same steps as smoke.c and smoke.lua, line for line. Arguments: endpoints, a suffix for
names, so that runs do not meet."""

import sys

import rukun

endpoints, suffix = sys.argv[1:]

# A node that is not there.
try:
    rukun.Client("127.0.0.1:1", deadline=0.2)
except rukun.Error as error:
    print("connect:", error.code)
client = rukun.Client(endpoints, name="smoke")

# A lock: held, refused to a second, released, granted again with a higher fence.
first = client.lock("smoke/lock/" + suffix, wait=5).acquire()
print("lock:", first.state)
try:
    client.lock("smoke/lock/" + suffix, wait=0).acquire()
except rukun.Error as error:
    print("second try:", error.code)
try:
    client.lock("smoke/lock/" + suffix, wait=0.2).acquire()
except rukun.Error as error:
    print("short wait:", error.code)
first.check()
fence = first.fence
first.release()
try:
    first.release()
except rukun.Error as error:
    print("second release:", error.code)
second = client.lock("smoke/lock/" + suffix, wait=5).acquire()
print("fence rises:", "yes" if second.fence > fence else "no")
second.release()

# A queue: publish, consume, acknowledge.
queue = client.queue("smoke/queue/" + suffix)
message_id = queue.publish({"n": 1}, id="one")
print("same publish id:", "same" if queue.publish({"n": 1}, id="one") == message_id else "other")
(job,) = queue.take(visibility=30, wait=5)
print("delivered:", '{"n":1}' if job.data == {"n": 1} else job.data, "attempt", job.attempt)
print("message id:", "same" if job.message_id == message_id else "other")
job.ack()
try:
    job.ack()
except rukun.Error as error:
    print("second ack:", error.code)
print("left:", len(queue.take()))

# A delivery that outlived its visibility settles nothing.
queue.publish(b"\0\xff")
(stale,) = queue.take(visibility=0.2, wait=5)
(job,) = queue.take(visibility=30, wait=5)
print("redelivered: attempt", job.attempt, "size", len(job.data))
try:
    stale.ack()
except rukun.Error as error:
    print("stale ack:", error.code)
job.extend(60)
job.nack(0)
(job,) = queue.take(visibility=30, wait=5)
print("after nack: attempt", job.attempt)
job.ack()

# A cache: absent, put, compare, delete.
cache = client.cache()
print("absent:", "none" if cache.entry("smoke/" + suffix) is None else "some")
version = cache.put("smoke/" + suffix, [1, 2], ttl=60)
entry = cache.entry("smoke/" + suffix)
print("value:", "[1,2]" if entry.value == [1, 2] else entry.value,
      "version", "same" if entry.version == version else "other")
try:
    cache.put("smoke/" + suffix, [3], if_version=version + 1)
except rukun.Error as error:
    print("wrong version:", error.code)
try:
    cache.put("smoke/" + suffix, [3], if_absent=True)
except rukun.Error as error:
    print("not absent:", error.code)
print("right version:", "rises" if cache.put("smoke/" + suffix, [3], if_version=version) > version
      else "falls")
print("deleted:", "yes" if cache.delete("smoke/" + suffix) else "no")
print("deleted again:", "yes" if cache.delete("smoke/" + suffix) else "no")
print("counter:", cache.add("smoke/counter/" + suffix, -3, initial=1 << 40))

# Any operation by name, and the end.
print("call:", len(client.call("lock.info", resource="smoke/lock/" + suffix)["holders"]))
client.close()
try:
    cache.get("smoke/" + suffix)
except rukun.Error as error:
    print("closed:", error.code)
