-- Starts an entry's life anew.
--
-- KEYS: entry, request.  ARGV: channel, head of the invalidation, ttl_ms, keep_ms.
-- Answer: {touched, version}.
local keep = tonumber(ARGV[4])
if keep > 0 then
    local before = redis.call('GET', KEYS[2])
    if before then
        return {tonumber(string.sub(before, 1, 1)), tonumber(string.sub(before, 2))}
    end
end
local version = redis.call('HGET', KEYS[1], 'version')
if version then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    -- Copies count the remaining life: they must ask again.
    redis.call('PUBLISH', ARGV[1], ARGV[2] .. version .. '}')
end
local touched = version and 1 or 0
if keep > 0 then redis.call('SET', KEYS[2], touched .. (version or '0'), 'PX', keep) end
return {touched, tonumber(version or 0)}
