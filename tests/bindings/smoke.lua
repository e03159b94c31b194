-- The same steps as smoke.c and smoke.py, line for line. Arguments: endpoints, a suffix for
-- names, so that runs do not meet.

local rukun = require "rukun"

local endpoints, suffix = arg[1], arg[2]

-- A node that is not there.
local _, _, code = rukun.connect { endpoints = "127.0.0.1:1", deadline = 0.2 }
print("connect: " .. code)
local client = assert(rukun.connect { endpoints = endpoints, name = "smoke" })

-- A lock: held, refused to a second, released, granted again with a higher fence.
local first = assert(client:lock("smoke/lock/" .. suffix, { wait = 5 }))
print("lock: " .. first:state())
_, _, code = client:lock("smoke/lock/" .. suffix, { wait = 0 })
print("second try: " .. code)
_, _, code = client:lock("smoke/lock/" .. suffix, { wait = 0.2 })
print("short wait: " .. code)
assert(first:check())
local fence = first.fence
assert(first:release())
_, _, code = first:release()
print("second release: " .. code)
local second = assert(client:lock("smoke/lock/" .. suffix, { wait = 5 }))
print("fence rises: " .. (second.fence > fence and "yes" or "no"))
assert(second:release())

-- A queue: publish, consume, acknowledge.
local queue = client:queue("smoke/queue/" .. suffix)
local message_id = assert(queue:publish({ n = 1 }, { id = "one" }))
print("same publish id: " .. (queue:publish({ n = 1 }, { id = "one" }) == message_id and "same"
    or "other"))
local job = assert(queue:take { visibility = 30, wait = 5 })[1]
print("delivered: " .. rukun.json.encode(job.data) .. " attempt " .. job.attempt)
print("message id: " .. (job.message_id == message_id and "same" or "other"))
assert(job:ack())
_, _, code = job:ack()
print("second ack: " .. code)
print("left: " .. #assert(queue:take()))

-- A delivery that outlived its visibility settles nothing.
assert(queue:publish("\0\xff", { raw = true }))
local stale = assert(queue:take { visibility = 0.2, wait = 5 })[1]
job = assert(queue:take { visibility = 30, wait = 5 })[1]
print("redelivered: attempt " .. job.attempt .. " size " .. #job.data)
_, _, code = stale:ack()
print("stale ack: " .. code)
assert(job:extend(60))
assert(job:nack(0))
job = assert(queue:take { visibility = 30, wait = 5 })[1]
print("after nack: attempt " .. job.attempt)
assert(job:ack())

-- A cache: absent, put, compare, delete.
local cache = client:cache()
print("absent: " .. (cache:get("smoke/" .. suffix) == nil and "none" or "some"))
local version = assert(cache:put("smoke/" .. suffix, { 1, 2 }, { ttl = 60 }))
local value, seen = cache:get("smoke/" .. suffix)
print("value: " .. rukun.json.encode(value) .. " version " ..
    (seen == version and "same" or "other"))
_, _, code = cache:put("smoke/" .. suffix, { 3 }, { if_version = version + 1 })
print("wrong version: " .. code)
_, _, code = cache:put("smoke/" .. suffix, { 3 }, { if_absent = true })
print("not absent: " .. code)
print("right version: " .. (assert(cache:put("smoke/" .. suffix, { 3 }, { if_version = version }))
    > version and "rises" or "falls"))
print("deleted: " .. (cache:delete("smoke/" .. suffix) and "yes" or "no"))
print("deleted again: " .. (cache:delete("smoke/" .. suffix) and "yes" or "no"))
print("counter: " .. assert(cache:add("smoke/counter/" .. suffix, -3, { initial = 1 << 40 })))

-- Any operation by name, and the end.
print("call: " .. #assert(client:call("lock.info", { resource = "smoke/lock/" .. suffix })).holders)
client:close()
_, _, code = cache:get("smoke/" .. suffix)
print("closed: " .. code)
