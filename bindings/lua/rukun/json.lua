-- JSON as Rukun's values need it: integers stay integers, arrays stay arrays, null is a
-- value, and what is not JSON is an error with the place where it is not.
--
--     json.encode(value)  -> text, or nil, message
--     json.decode(text)   -> value, or nil, message
--
-- A table is an array if it came from one, was made by json.array, or has the keys 1 to n
-- and n > 0; else it is an object. Decoded null is json.null.

local json = {}

local DEPTH_MAX = 128

json.null = setmetatable({}, { __tostring = function() return "null" end,
                               __newindex = function() error("json.null is constant", 2) end })

local array_mark = { __name = "rukun.json.array" }

--- Marks a table as an array, so that it is one even when it is empty.
function json.array(t)
    return setmetatable(t or {}, array_mark)
end

function json.is_array(t)
    return getmetatable(t) == array_mark
end

-- encoding -------------------------------------------------------------------------------

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f",
                  ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(char)
    return escapes[char] or string.format("\\u%04x", char:byte())
end

local function fail(...)
    error({ json = string.format(...) }, 0)
end

local function encode_string(text)
    local ok, at = utf8.len(text)
    if not ok then fail("a string is no UTF-8 at byte %d (give it as {raw = true})", at) end
    return '"' .. text:gsub('[%c"\\\127]', escape) .. '"'
end

local function encode_number(number)
    if math.type(number) == "integer" then return string.format("%d", number) end
    if number ~= number or number == math.huge or number == -math.huge then
        fail("%s has no JSON form", number)
    end
    local text = string.format("%.17g", number)
    local short = string.format("%.15g", number)
    if tonumber(short) == number then text = short end
    text = text:gsub(",", ".") -- of a locale
    -- A float stays one: 1.0 is not 1.
    if not text:find("[.eE]") then text = text .. ".0" end
    return text
end

-- How many items, if the table is an array.
local function array_count(t)
    local count = 0
    for key in pairs(t) do
        if math.type(key) ~= "integer" or key < 1 then return nil end
        count = count + 1
    end
    if count ~= #t then return nil end
    if count == 0 and getmetatable(t) ~= array_mark then return nil end
    return count
end

local encode_value

local function encode_array(t, count, out, depth)
    out[#out + 1] = "["
    for i = 1, count do
        if i > 1 then out[#out + 1] = "," end
        encode_value(t[i], out, depth)
    end
    out[#out + 1] = "]"
end

local function encode_object(t, out, depth)
    local keys = {}
    for key in pairs(t) do
        if type(key) ~= "string" then
            fail("a table has the key %s: neither an array from 1 to n nor all strings",
                 tostring(key))
        end
        keys[#keys + 1] = key
    end
    table.sort(keys) -- one text for one value
    out[#out + 1] = "{"
    for i, key in ipairs(keys) do
        if i > 1 then out[#out + 1] = "," end
        out[#out + 1] = encode_string(key)
        out[#out + 1] = ":"
        encode_value(t[key], out, depth)
    end
    out[#out + 1] = "}"
end

function encode_value(value, out, depth)
    local kind = type(value)
    if value == json.null or kind == "nil" then
        out[#out + 1] = "null"
    elseif kind == "string" then
        out[#out + 1] = encode_string(value)
    elseif kind == "number" then
        out[#out + 1] = encode_number(value)
    elseif kind == "boolean" then
        out[#out + 1] = tostring(value)
    elseif kind == "table" then
        if depth == DEPTH_MAX then fail("nested deeper than %d", DEPTH_MAX) end
        local count = array_count(value)
        if count then
            encode_array(value, count, out, depth + 1)
        else
            encode_object(value, out, depth + 1)
        end
    else
        fail("a %s has no JSON form", kind)
    end
end

-- Runs the function; what fail() raised becomes nil, message.
local function guarded(run, ...)
    local ok, result = pcall(run, ...)
    if ok then return result end
    if type(result) == "table" and result.json then return nil, "json: " .. result.json end
    error(result, 0)
end

function json.encode(value)
    return guarded(function()
        local out = {}
        encode_value(value, out, 0)
        return table.concat(out)
    end)
end

-- decoding -------------------------------------------------------------------------------

local unescapes = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n",
                    r = "\r", t = "\t" }

local function skip(text, at)
    return text:find("[^ \t\r\n]", at) or #text + 1
end

local function hex(text, at)
    local digits = text:match("^%x%x%x%x", at)
    if not digits then fail("at %d: \\u wants four hexadecimal digits", at) end
    return tonumber(digits, 16)
end

-- The character of an escape whose backslash is at `at`, and the place after it.
local function decode_escape(text, at)
    local char = text:sub(at + 1, at + 1)
    if char ~= "u" then
        local plain = unescapes[char]
        if not plain then fail("at %d: no escape \\%s", at, char) end
        return plain, at + 2
    end
    local code, after = hex(text, at + 2), at + 6
    if code >= 0xD800 and code <= 0xDBFF and text:sub(after, after + 1) == "\\u" then
        local low = hex(text, after + 2)
        if low >= 0xDC00 and low <= 0xDFFF then
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            after = after + 6
        end
    end
    if code >= 0xD800 and code <= 0xDFFF then fail("at %d: half a surrogate pair", at) end
    return utf8.char(code), after
end

local function decode_string(text, at)
    local parts = {}
    local from = at + 1
    while true do
        local stop = text:find('[%c"\\]', from)
        if not stop then fail("at %d: a string does not end", at) end
        local char = text:sub(stop, stop)
        if char == "\127" then -- a control character to Lua, not to JSON
            parts[#parts + 1] = text:sub(from, stop)
            from = stop + 1
        else
            parts[#parts + 1] = text:sub(from, stop - 1)
            if char == '"' then
                local whole = table.concat(parts)
                if not utf8.len(whole) then fail("at %d: a string is no UTF-8", at) end
                return whole, stop + 1
            end
            if char ~= "\\" then fail("at %d: a bare control character", stop) end
            parts[#parts + 1], from = decode_escape(text, stop)
        end
    end
end

local function decode_number(text, at)
    local stop = select(2, text:find("^-?%d+", at))
    if not stop or text:find("^-?0%d", at) then fail("at %d: no value begins so", at) end
    local is_integer = true
    local fraction = select(2, text:find("^%.%d+", stop + 1))
    if fraction then stop, is_integer = fraction, false end
    local exponent = select(2, text:find("^[eE][+-]?%d+", stop + 1))
    if exponent then stop, is_integer = exponent, false end
    local digits = text:sub(at, stop)
    -- One that no 64-bit integer can hold becomes a float, as in every other reader.
    local number = is_integer and math.tointeger(tonumber(digits)) or tonumber(digits)
    if not is_integer then number = number + 0.0 end
    return number, stop + 1
end

local decode_value

local function decode_array(text, at, depth)
    local items = json.array({})
    at = skip(text, at + 1)
    if text:sub(at, at) == "]" then return items, at + 1 end
    while true do
        items[#items + 1], at = decode_value(text, at, depth)
        at = skip(text, at)
        local char = text:sub(at, at)
        if char == "]" then return items, at + 1 end
        if char ~= "," then fail("at %d: expected , or ]", at) end
        at = at + 1
    end
end

local function decode_object(text, at, depth)
    local members = {}
    at = skip(text, at + 1)
    if text:sub(at, at) == "}" then return members, at + 1 end
    while true do
        at = skip(text, at)
        if text:sub(at, at) ~= '"' then fail("at %d: expected a member's name", at) end
        local key
        key, at = decode_string(text, at)
        at = skip(text, at)
        if text:sub(at, at) ~= ":" then fail("at %d: expected :", at) end
        members[key], at = decode_value(text, at + 1, depth)
        at = skip(text, at)
        local char = text:sub(at, at)
        if char == "}" then return members, at + 1 end
        if char ~= "," then fail("at %d: expected , or }", at) end
        at = at + 1
    end
end

local words = { t = { "true", true }, f = { "false", false }, n = { "null", json.null } }

function decode_value(text, at, depth)
    at = skip(text, at)
    local char = text:sub(at, at)
    if char == '"' then return decode_string(text, at) end
    if char == "{" or char == "[" then
        if depth == DEPTH_MAX then fail("at %d: nested deeper than %d", at, DEPTH_MAX) end
        local decode = char == "{" and decode_object or decode_array
        return decode(text, at, depth + 1)
    end
    local word = words[char]
    if word and text:sub(at, at + #word[1] - 1) == word[1] then
        return word[2], at + #word[1]
    end
    return decode_number(text, at)
end

function json.decode(text)
    local ok, result, after = pcall(decode_value, text, 1, 0)
    if not ok then
        if type(result) == "table" and result.json then return nil, "json: " .. result.json end
        error(result, 0)
    end
    after = skip(text, after)
    if after <= #text then return nil, string.format("json: at %d: more than one value", after) end
    return result
end

return json
