-- Caches. Made by client:cache(name).

local core = require "rukun._rukun"
local json = require "rukun.json"
local values = require "rukun.values"

local Cache = {}
Cache.__index = Cache
Cache.__name = "rukun.Cache"

--- The value, its version and whether it is stale; nil alone if there is none; or nil,
--- message, code. Never older than what this client has seen or written.
function Cache:get(key)
    local found, message, code = core.cache_get(self.client.handle, self.name, key)
    if found == nil then return nil, message, code end
    local value, problem, problem_code = values.decode(core.value_data(found),
                                                       core.value_encoding(found))
    if value == nil then return nil, problem, problem_code end
    return value, core.value_version(found), core.value_is_stale(found) ~= 0
end

local put_known = values.set("ttl", "soft_ttl", "if_version", "if_absent", "fence",
                             "fence_name", "raw")

--- Stores a value: its version, or nil, message, code (version_mismatch, exists,
--- stale_fence). options: ttl and soft_ttl (seconds), if_version, if_absent, fence,
--- fence_name, raw.
function Cache:put(key, value, options)
    options = values.check(options, put_known)
    return core.cache_put(self.client.handle, self.name, key,
                          values.encode(value, options.raw), {
        ttl_ms = values.milliseconds(options.ttl, "ttl"),
        soft_ttl_ms = values.milliseconds(options.soft_ttl, "soft_ttl"),
        if_version = options.if_version,
        if_absent = options.if_absent,
        fence = options.fence,
        fence_name = options.fence_name,
    })
end

--- Whether the key was there (and is gone now); or nil, message, code.
function Cache:delete(key, options)
    options = values.check(options, values.set("if_version"))
    return core.cache_delete(self.client.handle, self.name, key, options.if_version or 0)
end

--- Adds to a counter, which begins at options.initial (0): its value, or nil, message, code.
function Cache:add(key, delta, options)
    options = values.check(options, values.set("initial", "ttl"))
    return core.cache_add(self.client.handle, self.name, key, delta or 1,
                          options.initial or 0,
                          values.milliseconds(options.ttl, "ttl") or 0)
end

--- A table of the values of those keys that have one; or nil, message, code.
function Cache:get_many(keys)
    if #keys == 0 then return {} end
    local answer, message, code = self:call("cache.get", { keys = json.array({ table.unpack(keys) }) })
    if not answer then return nil, message, code end
    local found = {}
    for _, line in ipairs(answer.entries) do
        if line.found and line.value_base64 then
            -- Bytes have no JSON form; one by one they come as they are.
            found[line.key] = self:get(line.key)
        elseif line.found then
            found[line.key] = line.value
        end
    end
    return found
end

function Cache:call(operation, fields)
    local request = {}
    for name, value in pairs(fields or {}) do request[name] = value end
    if self.name ~= "" then request.cache = self.name end
    return self.client:call(operation, request)
end

--- Whether the key is there; from now on it lives for `ttl` seconds.
function Cache:touch(key, ttl)
    local answer, message, code = self:call("cache.touch", {
        key = key, ttl_ms = values.milliseconds(ttl, "ttl") })
    if not answer then return nil, message, code end
    return answer.touched
end

--- How many entries were removed: all, or those whose keys begin with prefix.
function Cache:invalidate(prefix)
    local answer, message, code = self:call("cache.invalidate", { prefix = prefix })
    if not answer then return nil, message, code end
    return answer.count
end

function Cache:stats() return self:call("cache.stats") end

function Cache:configure(settings) return self:call("cache.configure", settings) end

-- memoize --------------------------------------------------------------------------------

local function compute_and_put(self, key, compute, options)
    local result = compute()
    if result == nil then return nil end
    local stale = options.stale or 0
    local _, message, code = self:put(key, result, {
        ttl = options.ttl + stale, soft_ttl = stale > 0 and options.ttl or nil })
    return result, message, code
end

local function remembered(self, key, compute, options)
    local value, version, is_stale = self:get(key)
    if value == nil and version then return nil, version, is_stale end -- an error
    if value ~= nil and not is_stale then return value end
    local wait = options.wait or 30
    if value ~= nil then wait = 0 end -- someone else is at it already
    local lock, message, code = self.client:lock("memoize/" .. self.name .. "/" .. key,
                                                 { wait = wait })
    if not lock then
        if code ~= "held" and code ~= "wait_timeout" then return nil, message, code end
        if value ~= nil then return value end
        return compute_and_put(self, key, compute, options)
    end
    local guard <close> = lock
    local again, _, still_stale = self:get(key)
    if again ~= nil and not still_stale then return again end
    return compute_and_put(self, key, compute, options)
end

--- A function that keeps what f returned for its arguments for options.ttl seconds. On a
--- miss one caller in the whole cluster computes, under a lock; the others wait for it.
--- With options.stale the old value is given for so many seconds more, to all but the one
--- that computes. options.name is needed: functions have no names of their own.
function Cache:memoize(f, options)
    options = values.check(options, values.set("ttl", "stale", "name", "wait"))
    if type(options.name) ~= "string" then error("memoize: options.name is missing", 2) end
    if not options.ttl or options.ttl <= 0 then error("memoize: options.ttl is missing", 2) end
    return function(...)
        local text, message = json.encode(json.array({ ... }))
        if not text then error("memoize: " .. message, 2) end
        local key = options.name .. "/" .. text
        if #key > 300 then error("memoize: the arguments are too long for a key", 2) end
        local arguments = table.pack(...)
        return remembered(self, key, function()
            return f(table.unpack(arguments, 1, arguments.n))
        end, options)
    end
end

function Cache:__tostring()
    return "rukun.Cache " .. self.name
end

return function(client, name)
    return setmetatable({ client = client, name = name or "" }, Cache)
end
