-- The list of topics. KEYS: 1 hash name -> number, 2 hash number -> name, 3 the names in
-- order. ARGV: add <name> <at most>, or page <prefix> <after> <limit>.
local call = redis.call

if ARGV[1] == 'add' then
    local number = call('HGET', KEYS[1], ARGV[2])
    if number then return tonumber(number) end
    if call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return -5 end
    number = call('HINCRBY', KEYS[2], 'last', 1)
    call('HSET', KEYS[1], ARGV[2], number)
    call('HSET', KEYS[2], number, ARGV[2])
    call('ZADD', KEYS[3], 0, ARGV[2])
    return number
end

-- One more than asked for tells whether there are more.
local prefix, after = ARGV[2], ARGV[3]
local from = (after ~= '' and after >= prefix) and '(' .. after or '[' .. prefix
local to = prefix ~= '' and '[' .. prefix .. string.rep('\255', 8) or '+'
return call('ZRANGEBYLEX', KEYS[3], from, to, 'LIMIT', 0, ARGV[4] + 1)
