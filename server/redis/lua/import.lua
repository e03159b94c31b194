-- Data of another engine come to a Redis that holds none. KEYS: 1 rukun:meta. ARGV: what,
-- format, history, what stands for the cluster meanwhile.
-- look -> what is there: '' for nothing, else whose it is. begin -> the same; if nothing was
-- there, nodes refuse from now on. end -> whoever comes first makes it his.
local call, what = redis.call, ARGV[1]
local meta = KEYS[1]

local function whose()
    local cluster = call('HGET', meta, 'cluster')
    if cluster then return cluster end
    return call('EXISTS', meta) == 1 and '?' or ''
end

if what == 'look' then return whose() end
if what == 'begin' then
    local found = whose()
    -- Asked again after a lost answer: it is this one's already.
    if found ~= '' and call('HGET', meta, 'history') ~= ARGV[3] then return found end
    call('HSET', meta, 'format', ARGV[2], 'cluster', ARGV[4], 'history', ARGV[3])
    return ''
end
if call('HGET', meta, 'history') ~= ARGV[3] then return whose() end
call('HDEL', meta, 'cluster')
return ''
