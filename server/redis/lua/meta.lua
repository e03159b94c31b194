-- Whose data this is. KEYS: 1 rukun:meta. ARGV: format, cluster, a history to begin with.
-- Only the first one to ask decides.
local fields = {'format', 'cluster', 'history'}
for i, field in ipairs(fields) do redis.call('HSETNX', KEYS[1], field, ARGV[i]) end
return redis.call('HMGET', KEYS[1], unpack(fields))
