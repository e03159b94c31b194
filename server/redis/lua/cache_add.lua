-- Adds to a counter, a whole number in decimal.
--
-- KEYS: entry, fill, request.
-- ARGV: channel, head of the invalidation, delta, first (the value of a new one; empty: it
--       would be beyond 64 bits), ttl_ms of a new one, keep_ms, and for an entry that is not
--       JSON: its number in decimal and the version that this was read from, or empty.
-- Answer: {'ok', version, number} with the number in decimal, or a refusal: {'range'},
-- {'number'}, {'convert', version, value, encoding}.
local keep = tonumber(ARGV[6])
if keep > 0 then
    local before = redis.call('GET', KEYS[3])
    if before then
        local space = string.find(before, ' ', 1, true)
        return {'ok', tonumber(string.sub(before, 1, space - 1)), string.sub(before, space + 1)}
    end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local old = redis.call('HMGET', KEYS[1], 'value', 'version', 'encoding')
local version = old[1] and tonumber(old[2]) or 0
if not old[1] then
    if ARGV[4] == '' then return {'range'} end
    redis.call('HSET', KEYS[1], 'value', ARGV[4], 'encoding', 'json')
    if ARGV[5] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
else
    if old[3] ~= 'json' then
        if ARGV[7] == '' or ARGV[8] ~= old[2] then
            return {'convert', version, old[1], old[3]}
        end
        redis.call('HSET', KEYS[1], 'value', ARGV[7])
    end
    local done = redis.pcall('HINCRBY', KEYS[1], 'value', ARGV[3])
    if type(done) == 'table' then
        if old[3] ~= 'json' then redis.call('HSET', KEYS[1], 'value', old[1]) end
        return {string.find(done.err, 'overflow', 1, true) and 'range' or 'number'}
    end
end

version = math.max(now, version + 1)
local text = string.format('%.0f', version)
redis.call('HSET', KEYS[1], 'encoding', 'json', 'version', text)
redis.call('DEL', KEYS[2])
-- Read back: a number of Lua is exact to 53 bits only.
local number = redis.call('HGET', KEYS[1], 'value')
if keep > 0 then redis.call('SET', KEYS[3], text .. ' ' .. number, 'PX', keep) end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. text .. '}')
return {'ok', version, number}
