-- Stores one entry.
--
-- KEYS: entry, fill, fences, request.
-- ARGV: channel, head of the invalidation, value, encoding, ttl_ms, soft_ttl_ms,
--       if_version, if_absent, token, fence, fence_name, keep_ms. Empty: not given; keep_ms
--       0: the call can not come again, so its answer is not kept.
-- Answer: {'ok', version} or a refusal: {'fence', highest}, {'exists', version},
-- {'version', version}, {'void'}.
local keep = tonumber(ARGV[12])
if keep > 0 then
    local before = redis.call('GET', KEYS[4])
    if before then return {'ok', tonumber(before)} end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local old = redis.call('HMGET', KEYS[1], 'value', 'version')
local version = old[1] and tonumber(old[2]) or 0
if ARGV[10] ~= '' then
    local highest = tonumber(redis.call('HGET', KEYS[3], ARGV[11]) or 0)
    if tonumber(ARGV[10]) < highest then return {'fence', highest} end
end
if ARGV[8] == '1' and old[1] then return {'exists', version} end
if ARGV[7] ~= '' and tonumber(ARGV[7]) ~= version then return {'version', version} end
if ARGV[9] ~= '' then
    local base = redis.call('HGET', KEYS[2], 'base')
    if not base or tonumber(ARGV[9]) < tonumber(base) then return {'void'} end
end

version = math.max(now, version + 1)
local text = string.format('%.0f', version)
redis.call('HSET', KEYS[1], 'value', ARGV[3], 'encoding', ARGV[4], 'version', text)
if ARGV[6] ~= '0' then
    redis.call('HSET', KEYS[1], 'soft', string.format('%.0f', now + tonumber(ARGV[6]) * 1000))
else
    redis.call('HDEL', KEYS[1], 'soft')
end
if ARGV[5] ~= '0' then
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
else
    redis.call('PERSIST', KEYS[1])
end
redis.call('DEL', KEYS[2])
if ARGV[10] ~= '' then
    redis.call('HSET', KEYS[3], ARGV[11], ARGV[10])
    redis.call('PEXPIRE', KEYS[3], 86400000)
end
if keep > 0 then redis.call('SET', KEYS[4], text, 'PX', keep) end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. text .. '}')
return {'ok', version}
