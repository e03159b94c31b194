-- rukun.json and rukun.msgpack by themselves. Run by test_lua_layer.py.

local json = require "rukun.json"
local msgpack = require "rukun.msgpack"

local count = 0

local function same(left, right)
    if type(left) ~= "table" or type(right) ~= "table" then
        return left == right and math.type(left) == math.type(right)
    end
    if left == json.null or right == json.null then return left == right end
    for key, value in pairs(left) do
        if not same(value, right[key]) then return false end
    end
    for key in pairs(right) do
        if left[key] == nil then return false end
    end
    return json.is_array(left) == json.is_array(right)
end

local function check(condition, what)
    count = count + 1
    if not condition then error("failed: " .. what, 2) end
end

-- What is written, and comes back as it was.
local array = json.array
local written = {
    { "null", json.null }, { "true", true }, { "false", false }, { '""', "" },
    { "0", 0 }, { "-1", -1 }, { "9223372036854775807", math.maxinteger },
    { "-9223372036854775808", math.mininteger }, { "9007199254740993", 9007199254740993 },
    { "1.0", 1.0 }, { "0.1", 0.1 }, { "-2.5", -2.5 }, { "1e+300", 1e300 },
    { "[]", array {} }, { "{}", {} }, { "[1,[2,[]]]", array { 1, array { 2, array {} } } },
    { '{"a":{"b":[null]}}', { a = { b = array { json.null } } } },
    { '"grüße 😀"', "grüße 😀" }, { '"\\"\\\\/\\b\\f\\n\\r\\t\\u0001"', "\"\\/\b\f\n\r\t\1" },
}
for _, pair in ipairs(written) do
    local text, value = pair[1], pair[2]
    check(json.encode(value) == text, "encode gives " .. tostring(json.encode(value)) ..
          ", not " .. text)
    check(same(json.decode(text), value), "decode of " .. text)
end
for _, float in ipairs { 0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 123456789.123456789 } do
    check(json.decode(json.encode(float)) == float, "a float comes back exactly")
end
check(json.encode({ 1, 2, 3 }) == "[1,2,3]", "a sequence is an array")
check(json.encode({ b = 1, a = 2 }) == '{"a":2,"b":1}', "one text for one value")
check(json.encode(json.decode "[]") == "[]", "an empty array stays one")
check(json.decode('"\127"') == "\127", "DEL is no control character to JSON")

-- What is read, besides.
local read = {
    { ' \t\r\n[ 1 , 2 ] ', array { 1, 2 } }, { '"\\u00fc\\ud83d\\ude00\\/"', "ü😀/" },
    { "1E2", 100.0 }, { "-0", 0 }, { "1.5e-3", 0.0015 }, { "18446744073709551616", 2.0 ^ 64 },
    { '{"a":1,"a":2}', { a = 2 } },
}
for _, pair in ipairs(read) do
    check(same(json.decode(pair[1]), pair[2]), "decode of " .. pair[1])
end

-- What is refused, with a place.
for _, text in ipairs {
    "", " ", "nul", "nulll", "tru", "[1,]", "[,1]", "[1 2]", "[", "]", "{", "}", '{"a"}',
    '{"a":}', '{"a":1,}', "{a:1}", "{1:2}", "'a'", '"a', '"\\x"', '"\\u12"', '"\\ud800"',
    '"\\udc00"', '"\\ud800\\u0041"', '"\n"', '"\0"', '"\xff"', "01", "-", "-a", "+1", ".5",
    "1.", "1e", "1e+", "0x10", "NaN", "Infinity", "1 2", "[1]x", "//", "inf", "nan",
    ("["):rep(200) .. ("]"):rep(200),
} do
    local value, message = json.decode(text)
    check(value == nil and message:find("^json: ") ~= nil, "refused: " .. text)
end
local looped = {}
looped[1] = looped
for _, value in ipairs {
    0 / 0, math.huge, -math.huge, print, "\xff", "\xed\xa0\x80", { [1.5] = 1 }, { [0] = 1 },
    { 1, 2, [4] = 4 }, { 1, a = 2 }, { [true] = 1 }, looped, { a = print },
} do
    local text, message = json.encode(value)
    check(text == nil and message:find("^json: ") ~= nil, "refused: " .. tostring(value))
end
check(not pcall(function() json.null.x = 1 end), "null is constant")

-- msgpack that others wrote; the bytes are those of the specification.
local packed = {
    { "\xc0", json.null }, { "\xc2", false }, { "\xc3", true }, { "\x7f", 127 },
    { "\xff", -1 }, { "\xe0", -32 }, { "\xcc\xff", 255 }, { "\xcd\x01\x00", 256 },
    { "\xce\xff\xff\xff\xff", 4294967295 }, { "\xcf\0\x20\0\0\0\0\0\1", 9007199254740993 },
    { "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 2.0 ^ 64 }, { "\xd0\x80", -128 },
    { "\xd1\x80\0", -32768 }, { "\xd2\x80\0\0\0", -2147483648 },
    { "\xd3\x80\0\0\0\0\0\0\0", math.mininteger }, { "\xca\x3f\xc0\0\0", 1.5 },
    { "\xcb\x3f\xf8\0\0\0\0\0\0", 1.5 }, { "\xa1a", "a" }, { "\xd9\x01a", "a" },
    { "\xda\0\1a", "a" }, { "\xdb\0\0\0\1a", "a" }, { "\xc4\2\0\xff", "\0\xff" },
    { "\x92\1\x91\2", array { 1, array { 2 } } }, { "\xdc\0\1\1", array { 1 } },
    { "\x90", array {} }, { "\x80", {} }, { "\x81\xa1a\x81\xa1b\xc0", { a = { b = json.null } } },
    { "\xde\0\1\xa1a\1", { a = 1 } },
}
for _, pair in ipairs(packed) do
    check(same(msgpack.decode(pair[1]), pair[2]), string.format("msgpack %q", pair[1]))
end
for _, data in ipairs { "", "\xc1", "\x92\1", "\xa5abc", "\xdd\xff\xff\xff\xff", "\1\2", "\xcf\0",
                        ("\x91"):rep(500), "\xc7\1\1a", "\x81\xcb\x7f\xf8\0\0\0\0\0\0\1" } do
    local value, message = msgpack.decode(data)
    check(value == nil and message:find("^msgpack: ") ~= nil, string.format("refused %q", data))
end

print(count .. " checks")
