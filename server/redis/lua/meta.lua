-- Whose data this is. KEYS: 1 rukun:meta. ARGV: format, cluster, a history to begin with.
-- Only the first one to ask decides. Later ones write nothing, so that they are answered also
-- by a Redis that is full or can write nothing now.
local fields = {'format', 'cluster', 'history'}
local held = redis.call('HMGET', KEYS[1], unpack(fields))
for i, field in ipairs(fields) do
    if not held[i] then
        redis.call('HSET', KEYS[1], field, ARGV[i])
        held[i] = ARGV[i]
    end
end
return held
