-- Locks and sessions: the records that the leader writes through, and a view of each lock.
-- Whoever has a lower term than the store knows, or another history, changes nothing.
-- KEYS: 1 meta, 2 records, 3 staging, 4 names. ARGV: operation, format, cluster, term,
-- history, then what the operation takes. The first of the answer is 'ok' or why not:
-- 'format', 'foreign', 'fenced', 'regress', each with a word to it.
local meta, records, staging, names = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local operation, format, cluster, term, history = unpack(ARGV, 1, 5)
local at = 6 -- of the next argument
local view = string.sub(meta, 1, #meta - #'rukun:{lock}:meta') .. '{lock}:'

local function take()
    at = at + 1
    return ARGV[at - 1]
end

local held = redis.call('HMGET', meta, 'format', 'cluster', 'term', 'history', 'seq', 'batch',
                        'index', 'restoring', 'kept')
local is_there = held[1] ~= false
local held_term, held_history, seq, batch = held[3], held[4], held[5], held[6]

local function why_not()
    if not is_there then return nil end
    if held[1] ~= format then return {'format', held[1]} end
    if held[2] ~= cluster then return {'foreign', held[2]} end
    if held_history == history and tonumber(held_term) > tonumber(term) then
        return {'fenced', 'term ' .. held_term .. ' has it'}
    end
    return nil
end

local function regress(text) return {'regress', text} end

local function view_drop(name)
    redis.call('DEL', view .. name, view .. name .. ':owners', view .. name .. ':waiters')
end

local function views_drop()
    for _, name in ipairs(redis.call('HVALS', names)) do view_drop(name) end
    redis.call('DEL', names)
end

local function list_put(key)
    redis.call('DEL', key)
    for _ = 1, tonumber(take()) do redis.call('RPUSH', key, take()) end
end

-- One change: P field record, D field id, V id name, a count of pairs and the pairs, then
-- the owners and the waiters, each a count and so many names.
local function change(target)
    local what = take()
    if what == 'P' then
        local field = take()
        redis.call('HSET', target, field, take())
    elseif what == 'D' then
        redis.call('HDEL', target, take())
        local id = take()
        local name = redis.call('HGET', names, id)
        if name then
            view_drop(name)
            redis.call('HDEL', names, id)
        end
    else
        local id, name = take(), take()
        redis.call('HSET', names, id, name)
        redis.call('DEL', view .. name)
        for _ = 1, tonumber(take()) do
            local field = take()
            redis.call('HSET', view .. name, field, take())
        end
        list_put(view .. name .. ':owners')
        list_put(view .. name .. ':waiters')
    end
end

local function changes(target)
    while at <= #ARGV do change(target) end
end

-- `kept` is the term up to which nothing is missing here. A claim raises it only where that
-- holds up to `marked`, the last term that served anyone; otherwise only a batch does, and
-- its leader left a mark before. So each claim in between tells of the loss, however often
-- it comes and whoever made the one before.
local function claim()
    local marked = tonumber(take())
    local kept, count, loss = tonumber(held[9] or held_term), redis.call('HLEN', records), ''
    if not is_there then
        views_drop()
        redis.call('DEL', records, staging)
        redis.call('HSET', meta, 'seq', 0, 'batch', 0, 'index', 0)
        seq, batch, held[7], kept, count = '0', '0', '0', 0, 0
    elseif held_history ~= history then
        kept, loss = -1, 'it was written by another history of the cluster'
    end
    if loss ~= '' then -- said
    elseif kept < 0 then
        loss = 'what it lost before was not made good'
    elseif marked > 0 and count == 0 then
        loss = 'it is empty, and was not'
    elseif kept < marked then
        loss = "it is older than the last leader's claim"
    elseif count > 0 then
        kept = term
    end
    redis.call('HSET', meta, 'format', format, 'cluster', cluster, 'term', term,
               'history', history, 'kept', kept)
    return {'ok', seq, batch, held[7], count, loss}
end

-- The store is this leader's: nil, or what to answer.
local function not_mine()
    if not is_there then return regress('it is empty') end
    if held_history ~= history then return {'fenced', 'another history has it'} end
    if held_term ~= term then return regress('it knows an older term, ' .. held_term) end
    return nil
end

local function write()
    local other = not_mine()
    if other then return other end
    local after_seq, after_batch, new_seq, new_batch = take(), take(), take(), take()
    local index = take()
    if seq == new_seq and batch == new_batch then return {'ok'} end
    if seq ~= after_seq or batch ~= after_batch then
        return regress('it is at ' .. seq .. ', not at ' .. after_seq)
    end
    changes(records)
    redis.call('HSET', meta, 'seq', new_seq, 'batch', new_batch, 'index', index,
               'kept', term)
    return {'ok'}
end

-- All records anew, in steps: begin, stage ..., commit, then the views.
local function begin()
    local new_seq, new_batch = take(), take()
    if is_there and held_history ~= history then
        return {'fenced', 'another history has it'}
    end
    if is_there and held_term == term and seq == new_seq and batch == new_batch then
        return {'ok', 'done'}
    end
    redis.call('DEL', staging)
    redis.call('HSET', meta, 'format', format, 'cluster', cluster, 'term', term,
               'history', history, 'restoring', new_batch, 'kept', -1)
    if not is_there then redis.call('HSET', meta, 'seq', 0, 'batch', 0, 'index', 0) end
    return {'ok', 'go on'}
end

local function stage()
    local other = not_mine()
    if other then return other end
    if held[8] ~= take() then return regress('it lost what was being written back') end
    changes(staging)
    return {'ok'}
end

local function commit()
    local other = not_mine()
    if other then return other end
    local new_batch, new_seq, index, count = take(), take(), take(), take()
    if held[8] ~= new_batch or redis.call('HLEN', staging) ~= tonumber(count) then
        return regress('it lost what was being written back')
    end
    views_drop()
    redis.call('RENAME', staging, records)
    redis.call('HSET', meta, 'seq', new_seq, 'batch', new_batch, 'index', index,
               'kept', term)
    redis.call('HDEL', meta, 'restoring')
    return {'ok'}
end

local function views()
    local other = not_mine()
    if other then return other end
    if batch ~= take() then return regress('it lost what was written back') end
    changes(records)
    return {'ok'}
end

local operations = {claim = claim, write = write, begin = begin, stage = stage,
                    commit = commit, views = views}
return why_not() or operations[operation]()
