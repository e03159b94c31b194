-- An entry, or what is known of its fences, before any node serves. KEYS: 1 entry, 2 fences,
-- 3 one that never exists: while their slot moves to another server, Redis does not run the
-- script, and fails it nowhere after the DEL.
-- ARGV: 'entry', value, encoding, version, expiry in ms (0: none), when it is soft in us (0:
-- never); or 'fence', fence.
local call = redis.call
if ARGV[1] == 'fence' then
    call('HSET', KEYS[2], '', ARGV[2])
    call('PEXPIRE', KEYS[2], 86400000)
    return 0
end
call('DEL', KEYS[1])
call('HSET', KEYS[1], 'value', ARGV[2], 'encoding', ARGV[3], 'version', ARGV[4])
if ARGV[6] ~= '0' then call('HSET', KEYS[1], 'soft', ARGV[6]) end
if ARGV[5] ~= '0' then call('PEXPIREAT', KEYS[1], ARGV[5]) end
return 0
