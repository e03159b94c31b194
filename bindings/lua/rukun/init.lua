-- Rukun: locks, queues and caches for processes on many machines.
--
--     local rukun = require "rukun"
--     local client <close> = assert(rukun.connect({ endpoints = "127.0.0.1:7501" }))
--
--     local lock, message, code = client:lock("orders/42", { wait = 5 })
--     if not lock then return nil, message, code end
--     local guard <close> = lock          -- released at the end of the block
--     write(order, lock.fence)
--
-- What fails at run time returns nil, message, code, never raises; code is the wire's name,
-- "held" and the like. Wrong arguments raise. Durations are seconds.

local core = require "rukun._rukun"
local json = require "rukun.json"
local new_cache = require "rukun.cache"
local new_queue = require "rukun.queue"
local values = require "rukun.values"

local rukun = {
    json = json,
    null = json.null,
    version = core.version(),
}

-- locks ----------------------------------------------------------------------------------

--- A lock that is held: name, owner, fence. The fence rises with every grant: send it along
--- with each write that the lock protects, and let the receiver refuse any fence below the
--- highest it has seen. `local guard <close> = lock` releases it at the end of the block.
local Lock = {}
Lock.__index = Lock
Lock.__name = "rukun.Lock"

local states = {
    [core.LOCK_SAFE] = "safe", [core.LOCK_JEOPARDY] = "jeopardy",
    [core.LOCK_LOST] = "lost", [core.LOCK_RELEASED] = "released",
}

--- Gives the lock back: true, or nil, message, code (not_owner: it was lost before).
function Lock:release()
    return core.lock_release(self.handle)
end

--- true while held by this client's clock, else nil, message, "lost". No I/O.
function Lock:check()
    return core.lock_check(self.handle)
end

--- "safe", "jeopardy", "lost" or "released", by this client's clock. No I/O.
function Lock:state()
    return states[core.lock_state_now(self.handle)]
end

--- Seconds left of the lease by this client's clock.
function Lock:left()
    return core.lock_left_ms(self.handle) / 1000
end

function Lock:__close()
    if self:state() ~= "released" then
        local ok, message = self:release()
        if not ok then self.failure = message end
    end
end

function Lock:__tostring()
    return "rukun.Lock " .. self.name .. " " .. self:state()
end

-- the client -----------------------------------------------------------------------------

local Client = {}
Client.__index = Client
Client.__name = "rukun.Client"

local lock_known = values.set("wait", "shared", "lease", "owner", "priority", "min_hold",
                              "max_hold", "lock_delay")

--- Takes a lock; or nil, message, code: held (wait is 0), wait_timeout, deadlock ...
--- options: wait (seconds; nil: for ever, 0: only if free), shared, lease (seconds of its
--- own, not renewed; nil: it lives with the session), owner, priority, min_hold, max_hold,
--- lock_delay.
function Client:lock(name, options)
    options = values.check(options, lock_known)
    local handle, message, code, details = core.lock_acquire(self.handle, name, {
        wait_ms = values.wait(options.wait, "wait"),
        shared = options.shared,
        lease_ms = values.milliseconds(options.lease, "lease"),
        owner = options.owner,
        priority = options.priority,
        min_hold_ms = values.milliseconds(options.min_hold, "min_hold"),
        max_hold_ms = values.milliseconds(options.max_hold, "max_hold"),
        lock_delay_ms = values.milliseconds(options.lock_delay, "lock_delay"),
    })
    if not handle then return nil, message, code, details end
    return setmetatable({
        handle = handle,
        name = name,
        owner = core.lock_owner(handle),
        fence = core.lock_fence(handle),
    }, Lock)
end

--- The queue of a topic. No I/O.
function Client:queue(topic)
    return new_queue(self, topic)
end

--- The cache of that name; nil or "" is the default one. No I/O.
function Client:cache(name)
    return new_cache(self, name)
end

--- Any operation by its name in the API reference, fields and answer as there, in
--- milliseconds: client:call("lock.info", {resource = "orders/42"}). Or nil, message, code.
function Client:call(operation, fields)
    local request, problem = json.encode(fields or {})
    if not request then error(problem, 2) end
    local answer, message, code, details = core.call(self.handle, operation, request)
    if not answer then return nil, message, code, details end
    return json.decode(answer)
end

--- Nodes, groups with their leaders, and the slot map.
function Client:cluster()
    return self:call("cluster.info")
end

--- Ends the session: its locks are free at once.
function Client:close()
    core.client_close(self.handle)
end

Client.__close = Client.close

function Client:__tostring()
    return "rukun.Client"
end

local client_known = values.set("endpoints", "name", "token", "session_ttl", "deadline",
                                "forward")

--- A client; or nil, message, code (connect: no endpoint answered within the deadline).
--- options: endpoints ("host:port,host:port" or a list; default RUKUN_ENDPOINTS, else
--- 127.0.0.1:7500), name, token, session_ttl (10), deadline (10), forward.
function rukun.connect(options)
    options = values.check(options, client_known)
    local endpoints = options.endpoints
    if type(endpoints) == "table" then endpoints = table.concat(endpoints, ",") end
    local handle, message, code, details = core.client_open({
        endpoints = endpoints,
        name = options.name,
        token = options.token,
        forward = options.forward,
        session_ttl_ms = values.milliseconds(options.session_ttl, "session_ttl"),
        deadline_ms = values.milliseconds(options.deadline, "deadline"),
    })
    if not handle then return nil, message, code, details end
    return setmetatable({ handle = handle }, Client)
end

return rukun
