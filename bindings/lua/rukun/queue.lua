-- Queues and jobs. Made by client:queue(topic).

local core = require "rukun._rukun"
local values = require "rukun.values"

-- jobs -----------------------------------------------------------------------------------

--- One delivery of a message: data, id, message_id, attempt.
---
---     local job <close> = ...
---
--- A normal exit acknowledges, an error gives the message back with the topic's backoff.
--- What that could not tell the node is in job.failure; the visibility timeout sees to it.
local Job = {}
Job.__index = Job
Job.__name = "rukun.Job"

--- The message is done: true, or nil, message, code (stale_delivery: it is not).
function Job:ack()
    local ok, message, code = core.queue_ack(self.client.handle, self.id)
    if ok then self.is_settled = true end
    return ok, message, code
end

--- Gives the message back, ready after `delay` seconds; nil: the topic's backoff.
function Job:nack(delay)
    local ok, message, code = core.queue_nack(self.client.handle, self.id,
                                              values.wait(delay, "delay"))
    if ok then self.is_settled = true end
    return ok, message, code
end

--- From now on the message stays out of others' sight for that many seconds.
function Job:extend(visibility)
    return core.queue_extend(self.client.handle, self.id,
                             values.milliseconds(visibility, "visibility"))
end

function Job:__close(problem)
    if self.is_settled then return end
    local ok, message
    if problem == nil then
        ok, message = self:ack()
    else
        ok, message = self:nack()
    end
    if not ok then self.failure = message end
end

function Job:__tostring()
    return string.format("rukun.Job %s attempt %d", self.id, self.attempt)
end

local function new_job(client, deliveries, index)
    local raw = core.delivery_data(deliveries, index)
    local data, message = values.decode(raw, core.delivery_encoding(deliveries, index))
    return setmetatable({
        client = client,
        id = core.delivery_id(deliveries, index),
        message_id = core.delivery_message_id(deliveries, index),
        attempt = core.delivery_attempt(deliveries, index),
        raw = raw,
        data = data,
        failure = message, -- data is nil: it could not be read
        is_settled = false,
    }, Job)
end

-- queues ---------------------------------------------------------------------------------

local Queue = {}
Queue.__index = Queue
Queue.__name = "rukun.Queue"

local publish_known = values.set("id", "group", "delay", "priority", "ttl", "raw")

local function publish_options(given)
    return {
        publish_id = given.id,
        group = given.group,
        delay_ms = values.milliseconds(given.delay, "delay", 2),
        priority = given.priority,
        ttl_ms = values.milliseconds(given.ttl, "ttl", 2),
    }
end

--- Puts a message into the topic, durably: its id, or nil, message, code.
--- options: id (of the publish; a second one of the same id adds nothing), group, delay,
--- priority (0 to 9, 9 first), ttl, raw (data is a string that goes as it is).
function Queue:publish(data, options)
    options = values.check(options, publish_known)
    return core.queue_publish(self.client.handle, self.topic,
                              values.encode(data, options.raw), publish_options(options))
end

--- All or none, in this order, 1 to 1000: their ids, or nil, message, code.
function Queue:publish_many(list, options)
    options = values.check(options, publish_known)
    local messages = {}
    for i, data in ipairs(list) do messages[i] = values.encode(data, options.raw) end
    return core.queue_publish_many(self.client.handle, self.topic, messages,
                                   publish_options(options))
end

local take_known = values.set("consumer", "visibility", "max", "wait")

--- A list of up to options.max (1) jobs, perhaps empty; or nil, message, code.
--- options: visibility (seconds; default the topic's), max, wait (seconds, default 0).
function Queue:take(options)
    options = values.check(options, take_known)
    local deliveries, message, code = core.queue_consume(self.client.handle, self.topic, {
        consumer = options.consumer,
        max = options.max,
        wait_ms = values.wait(options.wait or 0, "wait"),
        visibility_ms = values.milliseconds(options.visibility, "visibility"),
    })
    if not deliveries then return nil, message, code end
    local jobs = {}
    for i = 1, core.deliveries_count(deliveries) do
        jobs[i] = new_job(self.client, deliveries, i - 1)
    end
    return jobs
end

--- Jobs as they come:
---
---     for job, message, code in queue:consume({visibility = 30}) do
---         local job <close> = assert(job, message)
---         handle(job.data)
---     end
---
--- Where a call fails, job is false beside the message and its code; going on tries again.
--- options.wait: the loop ends when none came for so many seconds; nil: never. A job that is
--- not settled when the loop asks for the next one is given back; one that is left behind by
--- a `break` comes back after its visibility timeout, unless it was <close>. (The loop has no
--- closing value of its own: Lua 5.4.4 miscompiles a `break` where there are both.)
function Queue:consume(options)
    options = values.check(options, take_known)
    local wait = options.wait == nil and math.huge or options.wait
    local last
    return function()
        if last and not last.is_settled then last:nack(0) end
        last = nil
        local jobs, message, code = self:take({
            consumer = options.consumer, visibility = options.visibility, wait = wait,
        })
        if not jobs then return false, message, code end
        last = jobs[1]
        return last
    end
end

--- Calls handle(job) for each message, one after the other. It returns when handle returned
--- `false`, or with nil, message, code at a failure that trying again will not mend. An
--- error in handle gives the message back with backoff; options.on_error(message, job) hears.
function Queue:run(handle, options)
    options = options or {}
    local take = { visibility = options.visibility, wait = 20 }
    while true do
        local jobs, message, code, details = self:take(take)
        if not jobs and not (type(details) == "table" and details.retryable) then
            if code then return nil, message, code end
        end
        for _, job in ipairs(jobs or {}) do
            local ok, result = pcall(handle, job)
            if ok and not job.is_settled then
                job:ack()
            elseif not ok then
                if not job.is_settled then job:nack() end
                if options.on_error then options.on_error(result, job) end
            end
            if ok and result == false then return true end
        end
    end
end

local function by_call(operation)
    return function(self, fields)
        local request = { topic = self.topic }
        for name, value in pairs(fields or {}) do request[name] = value end
        return self.client:call(operation, request)
    end
end

Queue.info = by_call "queue.info"
Queue.stats = by_call "queue.stats"
Queue.configure = by_call "queue.configure"
Queue.pause = by_call "queue.pause"
Queue.resume = by_call "queue.resume"
Queue.purge = by_call "queue.purge"
Queue.redrive = by_call "queue.redrive"

function Queue:__tostring()
    return "rukun.Queue " .. self.topic
end

return function(client, topic)
    return setmetatable({ client = client, topic = topic }, Queue)
end
