-- The Lua layer against a node that answers as told; the endpoint is the first argument. Each
-- section prints what test_lua_layer.py compares, beside what the node was asked.

local rukun = require "rukun"

local function same(left, right, what)
    if left ~= right then
        error(string.format("%s: %s, not %s", what, tostring(left), tostring(right)), 2)
    end
end

local function refused(what, f, ...)
    local ok, message = pcall(f, ...)
    if ok then error("not refused: " .. what, 2) end
    return message
end

-- Wrong arguments are raised, failures are returned.
refused("a misspelt option", rukun.connect, { endpoint = "x" })
refused("a negative duration", rukun.connect, { deadline = -1 })
refused("a wrong type", rukun.connect, { endpoints = 3, name = {} })
local nothing, message, code, details = rukun.connect { endpoints = "127.0.0.1:1", deadline = 0.3 }
same(nothing, nil, "no client")
same(code, "connect", "code")
assert(message:find("127.0.0.1:1", 1, true))
same(details.outcome, "not_done", "outcome")

local client <close> = assert(rukun.connect { endpoints = { arg[1] }, session_ttl = 5 })
same(client:cluster().cluster, "fake", "cluster")

-- Locks.
do
    local lock <close> = assert(client:lock("a", { wait = 5, priority = -3 }))
    same(math.type(lock.fence), "integer", "fence")
    same(lock.fence, 9007199254740991, "the highest fence, exactly")
    same(lock:state(), "safe", "state")
    assert(lock:left() > 0 and lock:check())
end
local lock = assert(client:lock("a"))
assert(lock:release())
local _, _, again = lock:release()
same(again, "not_owner", "a second release")
same(select(3, lock:check()), "lost", "check after release")
same(lock:state(), "released", "state after release")
same(select(3, client:lock("held", { wait = 0 })), "held", "held")
refused("a misspelt option", client.lock, client, "a", { wiat = 1 })
refused("a name that is no string", client.lock, client, 5)
refused("a name with NUL", client.lock, client, "a\0b")
refused("a fraction for an integer", client.lock, client, "a", { priority = 1.5 })

-- Queues.
local queue = client:queue("t")
same(queue:publish({ a = 1 }, { id = "p", delay = 1.5, priority = 9 }), "m1", "publish")
same(queue:publish("\0\xff", { raw = true }), "m1", "publish raw")
refused("bytes that are not said to be raw", queue.publish, queue, "\xff")
same(#assert(queue:publish_many({ 1, 2, 3 })), 3, "publish_many")
local _, many_message, many_code = queue:publish_many({})
assert(many_message and many_code, "none at all")
refused("a negative number", queue.take, queue, { max = -1 })

local seen = {}
for job, problem in queue:consume { wait = 0 } do
    local guard <close> = assert(job, problem)
    seen[#seen + 1] = string.format("%s/%d=%s", job.id, job.attempt,
                                    rukun.json.encode(job.data))
    if job.id == "d2" then assert(job:nack(2)) end
    if job.id == "d3" then break end
end
print(table.concat(seen, " "))
local ok = pcall(function()
    local job <close> = assert(queue:take())[1]
    error("no")
end)
same(ok, false, "the error goes on")
for _ in queue:consume { wait = 0 } do end -- left alone

-- Caches.
local cache = client:cache("c")
same(cache:put("k", { 1, 2 }, { ttl = 60, if_version = 3, fence = 5 }), 7, "put")
local value, version, is_stale = cache:get("k")
same(rukun.json.encode(value), "[1,9007199254740993]", "get")
same(version, 7, "version")
same(is_stale, false, "is_stale")
same(select("#", cache:get("none")), 3, "absent")
same(cache:get("none"), nil, "absent")
same(select(3, cache:get("none")), nil, "absent is no error")
same(cache:get("null"), rukun.null, "null")
same(cache:delete("k"), true, "delete")
same(cache:add("n", -5, { initial = math.mininteger }), math.mininteger, "add")
refused("a fraction for an integer", cache.add, cache, "n", 1.5)
refused("a negative version", cache.put, cache, "k", 1, { if_version = -1 })
local _, _, mismatch = cache:put("wrong", 1)
same(mismatch, "version_mismatch", "code")
same(cache:get_many({ "a", "b" }).a, 1, "get_many")

-- Any operation.
same(client:call("lock.info", { resource = "a" }).resource, "a", "call")
same(select(3, client:call("lock.invent")), "not_found", "no such operation")

-- memoize: once for each argument.
local computed = 0
local square = client:cache("memo"):memoize(function(x)
    computed = computed + 1
    return x * x
end, { ttl = 60, name = "square" })
same(square(3), 9, "memoize")
same(square(3), 9, "memoize")
same(square(4), 16, "memoize")
same(computed, 2, "computed")
refused("memoize without a name", cache.memoize, cache, print, { ttl = 1 })

-- What is collected frees itself, in any order.
do
    local forgotten = assert(client:lock("forgotten"))
    forgotten = nil
    collectgarbage()
    collectgarbage()
end

client:close()
same(select(3, client:lock("a")), "closed", "closed")
print("done")
