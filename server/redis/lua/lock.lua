-- Locks and sessions: the records that the leader writes through, and a view of each lock.
-- Whoever has a lower term than the store knows, or another history, changes nothing.
-- KEYS: 1 meta, 2 records, 3 staging, 4 names, 5 one that never exists: while the slot moves to
-- another server of a Cluster, Redis answers TRYAGAIN for want of it instead of running half
-- a script, up to the first key not named here that is not there. ARGV: operation, format,
-- cluster, term, history, then what the operation takes. The first of the answer is 'ok' or why not:
-- 'format', 'foreign', 'fenced', 'regress', 'again', each with a word to it.
local meta, records, staging, names, never = unpack(KEYS, 1, 5)
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

-- Whether Redis is at maxmemory. It then refuses the first write of a script, if that takes
-- memory, and no later one: so one comes first that takes none. What is written here is
-- decided, releases among it, and is never refused; who decides is told.
local function is_full()
    local reply = redis.pcall('LPUSHX', never, '')
    redis.call('HDEL', meta, '')
    return type(reply) == 'table' and string.find(reply.err or '', 'OOM', 1, true) and 1 or 0
end

local full = 0

local function done(word) return {'ok', word or '', full} end

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

-- The record of a field, 'kind:id'; an empty one goes, with the view of its lock.
local function record_put(field, record)
    if record ~= '' then
        redis.call('HSET', records, field, record)
        return
    end
    redis.call('HDEL', records, field)
    local id = string.match(field, ':(%d+)$')
    local name = redis.call('HGET', names, id)
    if name then
        view_drop(name)
        redis.call('HDEL', names, id)
    end
end

-- One change: P field record, the record empty where it goes; V id name, a count of pairs and
-- the pairs, then the owners and the waiters, each a count and so many names.
local function change(is_staged)
    local what = take()
    if what == 'P' then
        local field, record = take(), take()
        if is_staged then
            redis.call('HSET', staging, field, record)
        else
            record_put(field, record)
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

local function changes(is_staged)
    while at <= #ARGV do change(is_staged) end
end

local function staging_drop()
    redis.call('DEL', staging)
    redis.call('HDEL', meta, 'restoring')
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
    if held_term ~= term then staging_drop() end -- what nobody will go on with
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
    if seq == new_seq and batch == new_batch then return done() end
    if seq ~= after_seq or batch ~= after_batch then
        return regress('it is at ' .. seq .. ', not at ' .. after_seq)
    end
    changes(false)
    redis.call('HSET', meta, 'seq', new_seq, 'batch', new_batch, 'index', index,
               'kept', term)
    return done()
end

-- A batch too large for one step: prepare, stage ..., apply, then the views. Until apply
-- nothing is seen of it.
local function prepare()
    local other = not_mine()
    if other then return other end
    local after_seq, after_batch, new_seq, new_batch = take(), take(), take(), take()
    if seq == new_seq and batch == new_batch then return done('done') end
    if seq ~= after_seq or batch ~= after_batch then
        return regress('it is at ' .. seq .. ', not at ' .. after_seq)
    end
    redis.call('DEL', staging)
    redis.call('HSET', meta, 'restoring', new_batch)
    return done('go on')
end

local function apply()
    local other = not_mine()
    if other then return other end
    local new_batch, new_seq, index, count = take(), take(), take(), take()
    local after_seq, after_batch = take(), take()
    if seq ~= after_seq or batch ~= after_batch then
        return regress('it is at ' .. seq .. ', not at ' .. after_seq)
    end
    if held[8] ~= new_batch or redis.call('HLEN', staging) ~= tonumber(count) then
        return {'again', 'the parts of a batch are not all there'}
    end
    local fields = redis.call('HGETALL', staging)
    for field = 1, #fields, 2 do record_put(fields[field], fields[field + 1]) end
    staging_drop()
    redis.call('HSET', meta, 'seq', new_seq, 'batch', new_batch, 'index', index,
               'kept', term)
    return done()
end

-- All records anew, in steps: begin, stage ..., commit, then the views. Wherever it is now.
local function begin()
    local _, _, new_seq, new_batch = take(), take(), take(), take()
    if is_there and held_history ~= history then
        return {'fenced', 'another history has it'}
    end
    if is_there and held_term == term and seq == new_seq and batch == new_batch then
        return done('done')
    end
    redis.call('DEL', staging)
    redis.call('HSET', meta, 'format', format, 'cluster', cluster, 'term', term,
               'history', history, 'restoring', new_batch, 'kept', -1)
    if not is_there then redis.call('HSET', meta, 'seq', 0, 'batch', 0, 'index', 0) end
    return done('go on')
end

local function stage()
    local other = not_mine()
    if other then return other end
    if held[8] ~= take() then return {'again', 'other parts came between'} end
    changes(true)
    return done()
end

local function commit()
    local other = not_mine()
    if other then return other end
    local new_batch, new_seq, index, count = take(), take(), take(), take()
    if held[8] ~= new_batch or redis.call('HLEN', staging) ~= tonumber(count) then
        return {'again', 'the parts of a state are not all there'}
    end
    views_drop()
    redis.call('RENAME', staging, records)
    staging_drop()
    redis.call('HSET', meta, 'seq', new_seq, 'batch', new_batch, 'index', index,
               'kept', term)
    return done()
end

local function views()
    local other = not_mine()
    if other then return other end
    if batch ~= take() then return regress('it lost what was written back') end
    changes(false)
    return done()
end

local operations = {claim = claim, write = write, begin = begin, stage = stage,
                    commit = commit, prepare = prepare, apply = apply, views = views}
local refusal = why_not()
if refusal then return refusal end
full = is_full()
return operations[operation]()
