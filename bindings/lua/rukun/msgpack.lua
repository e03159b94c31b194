-- Reads msgpack, for values that others have put in so. Maps become tables, arrays are
-- marked as those of rukun.json, nil is json.null, binary data are strings.
--
--     msgpack.decode(bytes) -> value, or nil, message

local json = require "rukun.json"

local msgpack = {}

local DEPTH_MAX = 64

local numbers = {
    [0xca] = ">f", [0xcb] = ">d", [0xcc] = ">B", [0xcd] = ">I2", [0xce] = ">I4",
    [0xcf] = ">I8", [0xd0] = ">b", [0xd1] = ">i2", [0xd2] = ">i4", [0xd3] = ">i8",
}
local sized = {
    [0xc4] = { "text", ">B" }, [0xc5] = { "text", ">I2" }, [0xc6] = { "text", ">I4" },
    [0xd9] = { "text", ">B" }, [0xda] = { "text", ">I2" }, [0xdb] = { "text", ">I4" },
    [0xdc] = { "array", ">I2" }, [0xdd] = { "array", ">I4" },
    [0xde] = { "map", ">I2" }, [0xdf] = { "map", ">I4" },
}

local function fail(...)
    error({ msgpack = string.format(...) }, 0)
end

local function number(data, at, form)
    if string.packsize(form) > #data - at + 1 then fail("ends within a value") end
    return string.unpack(form, data, at)
end

local function head(first, data, at)
    if first < 0x90 then return "map", first & 0x0f, at end
    if first < 0xa0 then return "array", first & 0x0f, at end
    if first < 0xc0 then return "text", first & 0x1f, at end
    local kind = sized[first]
    if not kind then fail("no value begins with 0x%02x", first) end
    local size, after = number(data, at, kind[2])
    return kind[1], size, after
end

local function decode(data, at, depth)
    if depth > DEPTH_MAX then fail("nested deeper than %d", DEPTH_MAX) end
    local first
    first, at = number(data, at, ">B")
    if first < 0x80 then return first, at end
    if first >= 0xe0 then return first - 0x100, at end
    if first == 0xc0 then return json.null, at end
    if first == 0xc2 or first == 0xc3 then return first == 0xc3, at end
    if first == 0xcf then
        local value, after = number(data, at, ">I8")
        if value < 0 then value = (value >> 1) * 2.0 + (value & 1) end -- beyond an integer
        return value, after
    end
    if numbers[first] then return number(data, at, numbers[first]) end
    local kind, size
    kind, size, at = head(first, data, at)
    if size > #data - at + 1 then fail("ends within a value") end
    if kind == "text" then return data:sub(at, at + size - 1), at + size end
    local result = kind == "array" and json.array({}) or {}
    for i = 1, size do
        local key = i
        if kind == "map" then key, at = decode(data, at, depth + 1) end
        if key ~= key or key == nil then fail("a map has a key that is no number") end
        result[key], at = decode(data, at, depth + 1)
    end
    return result, at
end

function msgpack.decode(data)
    local ok, value, after = pcall(decode, data, 1, 0)
    if not ok then
        if type(value) == "table" and value.msgpack then
            return nil, "msgpack: " .. value.msgpack
        end
        error(value, 0)
    end
    if after <= #data then
        return nil, string.format("msgpack: %d bytes after the value", #data - after + 1)
    end
    return value
end

return msgpack
