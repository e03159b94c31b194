-- Removes one entry, and with it the right to fill the key.
--
-- KEYS: entry, fill, request.  ARGV: channel, head of the invalidation, if_version, keep_ms.
-- Answer: {'ok', version, deleted} or {'version', version}.
local keep = tonumber(ARGV[4])
if keep > 0 then
    local before = redis.call('GET', KEYS[3])
    if before then
        return {'ok', tonumber(string.sub(before, 2)), tonumber(string.sub(before, 1, 1))}
    end
end
local time = redis.call('TIME')
local old = redis.call('HGET', KEYS[1], 'version')
local version = tonumber(old or 0)
if ARGV[3] ~= '' and tonumber(ARGV[3]) ~= version then return {'version', version} end

version = math.max(time[1] * 1000000 + time[2], version + 1)
local text = string.format('%.0f', version)
local deleted = redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
if keep > 0 then redis.call('SET', KEYS[3], deleted .. text, 'PX', keep) end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. text .. '}')
return {'ok', version, deleted}
