-- Reads one entry, and deals out the right to fill a miss.
--
-- KEYS: entry, fill.  ARGV: fill_ms (0: a plain get).
-- Answer: {now_us, found, value, encoding, version, ttl_ms, soft_ms, token, busy_ms}.
-- ttl_ms and soft_ms are what is left, -1 for no bound. token: the time of the grant in
-- microseconds, 0 if none was given; busy_ms: how long another caller may still fill.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local fill_ms = tonumber(ARGV[1])
local entry = redis.call('HMGET', KEYS[1], 'value', 'encoding', 'version', 'soft')
local is_found = entry[1] ~= false
local ttl, soft = -1, -1
if is_found then
    ttl = redis.call('PTTL', KEYS[1])
    if entry[4] then soft = math.max(0, math.ceil((tonumber(entry[4]) - now) / 1000)) end
end
local token, busy = 0, 0
if fill_ms > 0 and (not is_found or soft == 0) then
    -- `base` is the first grant since the key was last changed: every token from then on
    -- is good until the next change, which deletes the record.
    local fill = redis.call('HMGET', KEYS[2], 'base', 'until')
    local left = fill[2] and tonumber(fill[2]) - now or 0
    if left > 0 then
        busy = math.ceil(left / 1000)
    else
        token = now
        redis.call('HSET', KEYS[2], 'base', fill[1] or string.format('%.0f', now), 'until',
                   string.format('%.0f', now + fill_ms * 1000))
        redis.call('PEXPIRE', KEYS[2], 660000)
    end
end
return {now, is_found and 1 or 0, entry[1] or '', entry[2] or '', tonumber(entry[3] or 0), ttl,
        soft, token, busy}
