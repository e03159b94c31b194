-- What all scripts of topics share: the keys of a topic, its messages, and where they stand.
--
-- A message is ready, delayed or in flight; of an ordering group only the oldest can be
-- handed out. What can be handed out ("poppable") stands in a list for each priority, in
-- publish order, or, if it came back between others, in the sorted set `back`. The rules
-- are those of core/state/queues*.c; users' bytes are never looked at.
--
-- KEYS: 1 the topic's ready list, whose name begins all its other keys; 2 its deliveries;
-- 3 one that never exists. While its slot moves to another server of a Cluster, Redis runs a
-- script only where all keys that were named exist, and fails it at the first other key that
-- has moved or is new: in the middle. A key that is nowhere makes it answer TRYAGAIN instead.
-- Of a call that may make a topic two more may follow: see is_as_told.
-- ARGV: 1 operation, 2 whether the topic holds dead letters, 3 size of the prefix,
-- 4 channel, 5 client or '', 6 seq, 7 first_unanswered, 8 how long the answer is kept.
-- Answers: status, time in us, whether a topic is to be listed, then what the operation
-- says; of a refusal field, text and a number. Status 1: the topic has to be listed first;
-- 2: Redis holds, or held when the topic was made, another history than the node knows.
local call, format = redis.call, string.format
local now = math.floor(now_us / 1000)
local ARGS = 8 -- before those of the operation

local DUE_MAX = 256    -- timers carried out by one call
local EDGE_MAX = 64    -- how far from a list's ends an entry is looked for
local STALE_MIN = 256  -- stale entries in lists that are not worth shedding
local REPLIES_MAX = 4096

local NUMBERS = {
    'number', 'last', 'order', 'count', 'bytes', 'delayed', 'poppable', 'stale', 'published',
    'delivered', 'acked', 'failed', 'expired', 'paused', 'visibility_ms', 'deliveries_max',
    'retry_ms', 'retry_max_ms', 'dedup_ms', 'ttl_ms', 'messages_max', 'bytes_max',
}
local COUNT = #NUMBERS
local FIELDS = {unpack(NUMBERS)}
FIELDS[COUNT + 1] = 'topic'
FIELDS[COUNT + 2] = 'levels'
FIELDS[COUNT + 3] = 'history'

-- The first write, which changes nothing. For want of memory, disk or replicas Redis refuses
-- the first write of a script alone, so that the call is refused as a whole or not at all. A
-- full Redis looks at whether that one may take memory, as RPUSHX may and UNLINK does not:
-- calls that give on what is there are carried out.
local has_begun = false

local function begin(grows)
    if has_begun then return end
    has_begun = true
    if grows then call('RPUSHX', KEYS[3], '') else call('UNLINK', KEYS[3]) end
end

local function text(number) return format('%.0f', number) end
local now_text = text(now)

local needs_listing = false
local opened = {}

-- --- topics

local function set(topic, field, value)
    topic[field] = value
    topic.changed[field] = true
end

local function add(topic, field, by) set(topic, field, topic[field] + by) end

-- Only read: it may be absent.
local function topic_open(base, is_dead)
    if opened[base] then return opened[base] end
    local prefix = tonumber(ARGV[3])
    local topic = {
        base = base, is_dead = is_dead, changed = {},
        flight = base:sub(1, prefix + 2) .. 'inflight:' .. base:sub(prefix + 3),
    }
    local values = call('HMGET', base .. ':info', unpack(FIELDS))
    topic.is_absent = not values[3]
    for i = 1, COUNT do topic[NUMBERS[i]] = tonumber(values[i]) or 0 end
    topic.name = values[COUNT + 1] or ''
    topic.levels = values[COUNT + 2] or '0'
    topic.history = values[COUNT + 3] or ''
    opened[base] = topic
    return topic
end

-- Whether what the node was told before it has a topic made still holds: under which number
-- that is listed, and whose data this is. Where Redis is one server the two keys that say so
-- follow the others, from KEYS[at] on, so that no loss comes in between. In a Cluster they are
-- in slots of their own, and what one master loses is not what others lose.
local function is_as_told(at, name, number, history)
    return not KEYS[at] or (call('HGET', KEYS[at], name) == number and
        call('HGET', KEYS[at + 1], 'history') == history)
end

local function topic_create(topic, name, number)
    topic.is_absent = false
    topic.name = name
    call('HSET', topic.base .. ':info', 'topic', name)
    for i = 1, COUNT do set(topic, NUMBERS[i], 0) end
    set(topic, 'number', number)
    set(topic, 'visibility_ms', 30000)
    set(topic, 'deliveries_max', topic.is_dead and 0 or 16)
    set(topic, 'retry_ms', 1000)
    set(topic, 'retry_max_ms', 300000)
    set(topic, 'dedup_ms', 300000)
end

-- Whether some node has consumers that wait for it.
local function is_awaited(topic)
    if topic.awaited == nil then
        topic.awaited = call('EXISTS', topic.base .. ':awaited') == 1
    end
    return topic.awaited
end

local function topic_save(topic)
    local values = {}
    for field in pairs(topic.changed) do
        local value = topic[field]
        values[#values + 1] = field
        values[#values + 1] = type(value) == 'number' and text(value) or value
    end
    if #values > 0 then call('HSET', topic.base .. ':info', unpack(values)) end
    topic.changed = {}
    if topic.wakes and topic.paused == 0 and is_awaited(topic) then
        call('PUBLISH', ARGV[4], topic.base)
    end
end

local function finish(answer)
    for _, topic in pairs(opened) do
        if next(topic.changed) or topic.wakes then topic_save(topic) end
    end
    return answer
end

-- --- messages

local STATE = '^(.)(.)(.)(.) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) ' ..
    '(%d+) (%d+) ()'

local function message_load(topic, id)
    local value = call('HGET', topic.base .. ':state', id)
    if not value then return nil end
    local m = {id = id}
    local group_size, unique_size, at
    m.state, m.place, m.settled, m.ghost, m.number, m.order, m.priority, m.expires_at,
        m.attempt, m.deliveries, m.failures, m.cost, m.size, m.scope, group_size,
        unique_size, at = value:match(STATE)
    m.number, m.order, m.priority = m.number + 0, m.order + 0, m.priority + 0
    m.expires_at, m.attempt = m.expires_at + 0, m.attempt + 0
    m.deliveries, m.failures = m.deliveries + 0, m.failures + 0
    m.cost, m.size = m.cost + 0, m.size + 0
    m.group = value:sub(at, at + group_size - 1)
    m.unique = value:sub(at + group_size, at + group_size + unique_size - 1)
    m.home = value:sub(at + group_size + unique_size)
    return m
end

local function message_save(topic, m)
    call('HSET', topic.base .. ':state', m.id,
        format('%s%s%s%s %.0f %.0f %d %.0f %.0f %.0f %.0f %.0f %.0f %s %d %d ', m.state,
            m.place, m.settled, m.ghost, m.number, m.order, m.priority, m.expires_at,
            m.attempt, m.deliveries, m.failures, m.cost, m.size, m.scope, #m.group,
            #m.unique) .. m.group .. m.unique .. m.home)
end

-- Those who wait look again when the first timer runs out: they have to know of a sooner one.
local function timer_set(topic, m, at)
    local due = topic.base .. ':due'
    if is_awaited(topic) and not topic.wakes then
        local first = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
        if not first or at < first + 0 then topic.wakes = true end
    end
    call('ZADD', due, text(at), m.id)
end

local function timer_stop(topic, m) call('ZREM', topic.base .. ':due', m.id) end

-- --- what can be handed out

local function list_of(topic, priority)
    if priority == 0 then return topic.base end
    return topic.base .. ':p' .. priority
end

local function back_score(m) return text((9 - m.priority) * 2 ^ 42 + m.order) end

local function use_level(topic, priority)
    if topic.levels:find(tostring(priority), 1, true) then return end
    local levels = {}
    for level in (topic.levels .. priority):gmatch('.') do levels[#levels + 1] = level end
    table.sort(levels, function(a, b) return a > b end)
    set(topic, 'levels', table.concat(levels))
end

-- The live message at one end of a list; entries that are stale go. `max`: give up after
-- that many, false then.
local function edge(topic, list, at, max)
    for _ = 1, max do
        local id = call('LINDEX', list, at)
        if not id then return nil end
        local m = message_load(topic, id)
        if m and m.place == 'l' then return m end
        call(at == 0 and 'LPOP' or 'RPOP', list)
        add(topic, 'stale', topic.stale > 0 and -1 or 0)
    end
    return false
end

-- Into its list where publish order allows, else between the others. is_newest: it is
-- known to be after all others of its priority.
local function ready_insert(topic, m, is_newest)
    local list = list_of(topic, m.priority)
    use_level(topic, m.priority)
    m.place = 'l'
    local last = not is_newest and edge(topic, list, -1, 8)
    if m.ghost == 'g' then
        m.place = 'b'
    elseif is_newest or last == nil or (last and last.order < m.order) then
        call('RPUSH', list, m.id)
    else
        local first = last and edge(topic, list, 0, 8)
        if first and m.order < first.order then
            call('LPUSH', list, m.id)
        else
            m.place = 'b'
        end
    end
    if m.place == 'b' then call('ZADD', topic.base .. ':back', back_score(m), m.id) end
    add(topic, 'poppable', 1)
    topic.wakes = true
end

-- Many entries of the list are stale, the one of `gone` among them: from its head on they
-- go, and what is live moves to where no place is ever stale.
local function shed(topic, list, gone)
    if topic.stale < STALE_MIN or 2 * topic.stale < call('LLEN', list) then return end
    for _ = 1, 16 do
        local id = call('LPOP', list)
        if not id then return end
        local m = message_load(topic, id)
        if m and m.place == 'l' and id ~= gone.id then
            m.place = 'b'
            call('ZADD', topic.base .. ':back', back_score(m), id)
            message_save(topic, m)
        else
            add(topic, 'stale', topic.stale > 0 and -1 or 0)
        end
    end
end

-- Near an end of the list the entry goes; further inside it stays, stale, for what passes
-- there later: no call looks through a list.
local function ready_remove(topic, m)
    if m.place == '-' then return end
    add(topic, 'poppable', -1)
    local place = m.place
    m.place = '-'
    if place == 'b' then
        call('ZREM', topic.base .. ':back', m.id)
        return
    end
    local list = list_of(topic, m.priority)
    if call('LPOS', list, m.id, 'MAXLEN', EDGE_MAX) then
        call('LREM', list, 1, m.id)
    elseif call('LPOS', list, m.id, 'RANK', -1, 'MAXLEN', EDGE_MAX) then
        call('LREM', list, -1, m.id)
    else
        m.ghost = 'g'
        add(topic, 'stale', 1)
        shed(topic, list, m)
    end
end

local function ready_first(topic)
    local top = call('ZRANGE', topic.base .. ':back', 0, 0)[1]
    local best = top and message_load(topic, top)
    for level in topic.levels:gmatch('.') do
        local m = edge(topic, list_of(topic, level + 0), 0, 1000000)
        if m then
            if not best or m.priority > best.priority or
                (m.priority == best.priority and m.order < best.order) then
                return m
            end
            return best
        end
    end
    return best
end

local function group_head(topic, group)
    local prefix = format('%04d', #group) .. group
    local member = call('ZRANGEBYLEX', topic.base .. ':groups', '[' .. prefix,
        '[' .. prefix .. '\255', 'LIMIT', 0, 1)[1]
    return member and member:sub(#prefix + 17)
end

local function group_member(m)
    return format('%04d%s%016.0f', #m.group, m.group, m.order) .. m.id
end

local function is_poppable(topic, m)
    return m.state == 'R' and (m.group == '' or group_head(topic, m.group) == m.id)
end

-- --- where a message stands

local function count_state(topic, m, by)
    if m.state == 'D' then add(topic, 'delayed', by) end
end

-- At the end of a topic; its order and state are set. Saves it.
local function attach(topic, m, is_newest)
    if m.group ~= '' then call('ZADD', topic.base .. ':groups', 0, group_member(m)) end
    call('ZADD', topic.base .. ':order', text(m.order), m.id)
    add(topic, 'count', 1)
    add(topic, 'bytes', m.cost)
    count_state(topic, m, 1)
    m.place = '-'
    if is_poppable(topic, m) then ready_insert(topic, m, is_newest) end
    message_save(topic, m)
end

-- Out of its topic; the next of its group may become ready.
local function detach(topic, m)
    ready_remove(topic, m)
    call('HDEL', topic.base .. ':state', m.id)
    call('ZREM', topic.base .. ':order', m.id)
    timer_stop(topic, m)
    add(topic, 'count', -1)
    add(topic, 'bytes', -m.cost)
    count_state(topic, m, -1)
    if m.state == 'F' then call('HDEL', topic.flight, m.id) end
    if m.group == '' then return end
    call('ZREM', topic.base .. ':groups', group_member(m))
    local head = group_head(topic, m.group)
    local after = head and message_load(topic, head)
    if after and after.state == 'R' and after.place == '-' then
        ready_insert(topic, after)
        message_save(topic, after)
    end
end

-- A message is found by the topic that made it, whose number its id has: `home`, where that is
-- not the topic in which it stands or whose dead letter it is. That one knows where it moved.

-- Changes the state and what follows from it; not the timer. Saves it.
local function move(topic, m, state)
    ready_remove(topic, m)
    count_state(topic, m, -1)
    if m.state == 'F' and state ~= 'F' then call('HDEL', topic.flight, m.id) end
    m.state = state
    count_state(topic, m, 1)
    if is_poppable(topic, m) then ready_insert(topic, m) end
    message_save(topic, m)
end

local function unique_release(topic, m)
    if m.scope == '0' then return end
    call('HDEL', (m.home ~= '' and m.home or topic.base) .. ':unique', m.unique)
    m.scope, m.unique = '0', ''
end

local function remove(topic, m)
    unique_release(topic, m)
    detach(topic, m)
    call('HDEL', topic.base .. ':msg', m.id)
    if m.home ~= '' then call('HDEL', m.home .. ':moved', m.id) end
end

local function make_ready(topic, m)
    if m.expires_at ~= 0 then
        timer_set(topic, m, m.expires_at)
    else
        timer_stop(topic, m)
    end
    move(topic, m, 'R')
end

-- --- failures

local due_move

-- The topic of its dead letters; it may be absent.
local function topic_dead(topic)
    local base = topic.base .. ':dead'
    local is_new = opened[base] == nil
    local dead = topic_open(base, true)
    if is_new and not dead.is_absent then
        needs_listing = needs_listing or dead.number == 0
        due_move(dead)
    end
    return dead
end

-- Body, number and history stay, so a late ack still finds it. Its time to live ends with
-- its life; the dead letters' own begins at `at`.
local function bury(topic, m, at)
    local dead = topic_dead(topic)
    if dead.is_absent then
        topic_create(dead, topic.name .. '/dead', 0)
        needs_listing = true
    end
    unique_release(topic, m)
    detach(topic, m)
    local body = call('HGET', topic.base .. ':msg', m.id)
    call('HSET', dead.base .. ':msg', m.id, body)
    call('HDEL', topic.base .. ':msg', m.id)
    add(dead, 'order', 1)
    add(dead, 'published', 1)
    m.order, m.state = dead.order, 'R'
    m.expires_at = dead.ttl_ms ~= 0 and at + dead.ttl_ms or 0
    if m.expires_at ~= 0 then timer_set(dead, m, m.expires_at) end
    attach(dead, m, true)
end

local function is_worn_out(topic, m)
    return topic.deliveries_max ~= 0 and not topic.is_dead and
        m.deliveries >= topic.deliveries_max
end

local function count_failure(topic, m)
    m.failures = m.failures + 1
    add(topic, 'failed', 1)
end

local function backoff_ms(topic, m)
    local delay, i = topic.retry_ms, 1
    while i < m.failures and delay < topic.retry_max_ms and delay > 0 do
        delay, i = delay * 2, i + 1
    end
    return math.min(delay, topic.retry_max_ms)
end

-- Timers that ran out, each as of its own time: a bounded number, the rest with later calls.
function due_move(topic)
    local left = DUE_MAX
    while left > 0 do
        local due = call('ZRANGEBYSCORE', topic.base .. ':due', '-inf', now_text,
            'WITHSCORES', 'LIMIT', 0, left)
        if #due == 0 then return end
        begin()
        local messages = {}
        for i = 1, #due, 2 do
            local m = message_load(topic, due[i])
            if m then
                m.at = due[i + 1] + 0
                messages[#messages + 1] = m
            else
                call('ZREM', topic.base .. ':due', due[i])
            end
        end
        table.sort(messages, function(a, b)
            if a.at ~= b.at then return a.at < b.at end
            return a.number < b.number
        end)
        for _, known in ipairs(messages) do
            -- What was carried out before may have changed where it stands.
            local m, at = message_load(topic, known.id), known.at
            if m.state == 'F' then
                count_failure(topic, m)
                if is_worn_out(topic, m) then bury(topic, m, at) else make_ready(topic, m) end
            elseif m.state == 'D' and (m.expires_at == 0 or at < m.expires_at) then
                make_ready(topic, m)
            else
                add(topic, 'expired', 1)
                remove(topic, m)
            end
        end
        left = left - #due / 2
    end
end

-- What was due here may have made dead letters that are over, too.
local function due_move_all(topic)
    due_move(topic)
    local dead = opened[topic.base .. ':dead']
    if dead and not dead.is_absent then due_move(dead) end
end

-- The topic of this call, after what was due. What its topic buries now is its concern, too.
local function topic_begin()
    local topic = topic_open(KEYS[1], ARGV[2] == '1')
    if topic.is_dead then
        local above = topic.base:sub(1, -6)
        if call('ZCOUNT', above .. ':due', '-inf', now_text) > 0 then
            due_move_all(topic_open(above, above:sub(-5) == ':dead'))
        end
    end
    if not topic.is_absent then
        needs_listing = needs_listing or topic.number == 0
        due_move_all(topic)
    end
    return topic
end

-- --- answers

local function refuse(status, field, line, number)
    return {status, now_us, 0, field, line, number or 0}
end

local function answer_of(...) return {0, now_us, needs_listing and 1 or 0, ...} end

local function answers_key() return KEYS[1] .. ':client:' .. ARGV[5] end

local function forget_below(key, from, below)
    if below - from <= 64 then
        local old = {}
        for seq = from, below - 1 do old[#old + 1] = text(seq) end
        if #old > 0 then call('HDEL', key, unpack(old)) end
        return
    end
    for _, field in ipairs(call('HKEYS', key)) do
        local seq = tonumber(field)
        if seq and seq < below then call('HDEL', key, field) end
    end
end

local first_kept = 0 -- the highest first_unanswered of the client until now
local forget_from    -- the same, if it rises

-- The answer that this request got already, or why it gets none; nil: carry it out. Writes
-- nothing: a full Redis gives old answers, too.
local function repeated_answer()
    if ARGV[5] == '' then return nil end
    local key, seq, first = answers_key(), tonumber(ARGV[6]), tonumber(ARGV[7])
    local known = call('HMGET', key, 'first', ARGV[6])
    local kept = tonumber(known[1])
    first_kept = kept or 0
    if kept == nil then
        if seq < first then
            return refuse(-1, 'first_unanswered',
                "first_unanswered is above the request's own seq")
        end
        return nil
    end
    if seq < math.max(kept, first) then
        return refuse(-12, '', 'the answer to request ' .. ARGV[6] ..
            ' was given and acknowledged')
    end
    if known[2] then return cmsgpack.unpack(known[2]) end
    if first > kept then
        forget_from = kept
    elseif call('HLEN', key) > REPLIES_MAX then
        return refuse(-18, 'first_unanswered', format(
            '%d answers of this client are kept already', REPLIES_MAX))
    end
    return nil
end

-- Answers that the client does not need any more go. The new bound is noted with the answer;
-- is_alone: there will be none.
local function forget(is_alone)
    if not forget_from then return end
    begin()
    if is_alone then
        call('HSET', answers_key(), 'first', ARGV[7])
    else
        forget_below(answers_key(), forget_from, tonumber(ARGV[7]))
    end
end

local function remember(answer)
    if ARGV[5] ~= '' then
        local key = answers_key()
        -- Requests may come late: the bound of one of them is no news.
        local first = text(math.max(first_kept, tonumber(ARGV[7])))
        call('HSET', key, 'first', first, ARGV[6], cmsgpack.pack(answer))
        call('PEXPIRE', key, ARGV[8])
    end
    return answer
end
