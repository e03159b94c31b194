-- Starts an entry's life anew.
--
-- KEYS: entry.  ARGV: channel, head of the invalidation, ttl_ms.  Answer: {touched, version}.
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return {0, 0} end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
-- Copies count the remaining life: they must ask again.
redis.call('PUBLISH', ARGV[1], ARGV[2] .. version .. '}')
return {1, tonumber(version)}
