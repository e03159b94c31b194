-- Values on their way, and durations. Wrong types are programming errors and are raised.

local core = require "rukun._rukun"
local json = require "rukun.json"
local msgpack = require "rukun.msgpack"

local values = {}

--- {data, encoding} as the core wants it: JSON, or with `raw` a string as it is.
function values.encode(value, raw)
    if raw then
        if type(value) ~= "string" then
            error("raw data: expected string, got " .. type(value), 3)
        end
        return { value, core.RAW }
    end
    local text, message = json.encode(value)
    if not text then error(message, 3) end
    return { text, core.JSON }
end

--- The value; or nil, message, code where it cannot be read.
function values.decode(data, encoding)
    local decode = encoding == core.JSON and json.decode
        or encoding == core.MSGPACK and msgpack.decode
    if not decode then return data end
    local value, message = decode(data)
    if value == nil then return nil, message, "not_acceptable" end
    return value
end

--- Whole milliseconds, rounded up, so that nothing above zero becomes zero.
function values.milliseconds(seconds, name, level)
    if seconds == nil then return nil end
    if type(seconds) ~= "number" or seconds ~= seconds or seconds < 0 then
        error(string.format("%s: %s is not a duration in seconds", name, tostring(seconds)),
              (level or 1) + 2)
    end
    if seconds > 3e9 then seconds = 3e9 end
    return math.ceil(seconds * 1000 - 1e-6)
end

--- nil is for ever, which the core knows as false.
function values.wait(seconds, name)
    if seconds == nil or seconds == math.huge then return false end
    return values.milliseconds(seconds, name, 2)
end

--- Refuses what is misspelt.
function values.check(given, known)
    if given == nil then return {} end
    if type(given) ~= "table" then error("options: expected table, got " .. type(given), 3) end
    for name in pairs(given) do
        if not known[name] then error("there is no option " .. tostring(name), 3) end
    end
    return given
end

function values.set(...)
    local set = {}
    for _, name in ipairs({ ... }) do set[name] = true end
    return set
end

return values
