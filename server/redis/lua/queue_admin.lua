-- configure, pause, resume, purge, redrive, and what nodes do by themselves: number (a topic
-- was listed), sweep. KEYS 4: redrive's target; the next two: see is_as_told. ARGV after the
-- common ones: 1 name, 2 number or '', 3 history, 4 whether dead letters are meant (purge),
-- 5 limit (redrive), then names and values of settings. name and number are those of the topic
-- that the call may have to make.
local function arg(i) return ARGV[ARGS + i] end

local function unknown() return refuse(-4, 'topic', 'there is no such topic') end

local admin = {}

-- What is answered if a topic cannot be made yet, else nil.
local function not_yet(at)
    if arg(2) == '' then return {1, now_us, 0} end
    if not is_as_told(at, arg(1), arg(2), arg(3)) then return {2, now_us, 0} end
    return nil
end

-- The topic is made, or gets its number. Or: what is answered instead.
local function ensure(topic)
    if not topic.is_absent and topic.number ~= 0 then return nil end
    local answer = not_yet(4)
    if answer then return answer end
    if topic.is_absent then
        topic_create(topic, arg(1), 0)
        set(topic, 'history', arg(3))
    end
    set(topic, 'number', tonumber(arg(2)))
    needs_listing = false
    return nil
end

function admin.configure(topic)
    local answer = ensure(topic)
    if answer then return answer end
    local wanted = {retry_ms = topic.retry_ms, retry_max_ms = topic.retry_max_ms}
    for i = ARGS + 6, #ARGV, 2 do wanted[ARGV[i]] = tonumber(ARGV[i + 1]) end
    if topic.is_dead then wanted.deliveries_max = 0 end
    if wanted.retry_max_ms < wanted.retry_ms then
        return refuse(-6, 'retry_max_ms', 'retry_max_ms ' .. text(wanted.retry_max_ms) ..
            ' is below retry_ms ' .. text(wanted.retry_ms))
    end
    for field, value in pairs(wanted) do set(topic, field, value) end
    return answer_of(0)
end

function admin.pause(topic)
    local answer = ensure(topic)
    if answer then return answer end
    set(topic, 'paused', 1)
    return answer_of(0)
end

function admin.resume(topic)
    if topic.is_absent then return unknown() end
    set(topic, 'paused', 0)
    topic.wakes = true
    return answer_of(0)
end

-- In flight ones too: what their holders say later finds them gone. Redis frees the memory
-- beside its loop.
function admin.purge(topic)
    if topic.is_absent then return unknown() end
    if arg(4) == '1' and not topic.is_dead then topic = topic_dead(topic) end
    if topic.is_absent then return answer_of(0) end
    local count, base = topic.count, topic.base
    local keys = {base, topic.flight}
    for _, part in ipairs({'msg', 'state', 'due', 'order', 'back', 'groups', 'unique'}) do
        keys[#keys + 1] = base .. ':' .. part
    end
    for priority = 1, 9 do keys[#keys + 1] = base .. ':p' .. priority end
    call('UNLINK', unpack(keys))
    for _, field in ipairs({'count', 'bytes', 'delayed', 'poppable', 'stale'}) do
        set(topic, field, 0)
    end
    set(topic, 'levels', '0')
    return answer_of(count)
end

local function strip(base)
    while base:sub(-5) == ':dead' do base = base:sub(1, -6) end
    return base
end

-- The topic that made a message finds it where it is.
local function settle_home(m, from, to)
    local home = m.home ~= '' and m.home or strip(from.base)
    if home == to.base then
        call('HDEL', home .. ':moved', m.id)
        m.home = ''
    else
        call('HSET', home .. ':moved', m.id, to.base)
        m.home = home
    end
end

local function revive(m, from, to)
    detach(from, m)
    local body = call('HGET', from.base .. ':msg', m.id)
    call('HSET', to.base .. ':msg', m.id, body)
    call('HDEL', from.base .. ':msg', m.id)
    settle_home(m, from, to)
    m.deliveries, m.failures, m.settled = 0, 0, 's'
    add(to, 'order', 1)
    m.order, m.state = to.order, 'R'
    m.expires_at = to.ttl_ms ~= 0 and now + to.ttl_ms or 0
    if m.expires_at ~= 0 then timer_set(to, m, m.expires_at) end
    attach(to, m, true)
end

local function is_full(to, m)
    return (to.messages_max ~= 0 and to.count >= to.messages_max) or
        (to.bytes_max ~= 0 and to.bytes + m.cost > to.bytes_max)
end

-- Oldest first, as far as the target has room. Those in flight stay with who reads the dead
-- letters.
local function redrive(from, to)
    local limit, count, after = tonumber(arg(5)), 0, 0
    while count < limit do
        local ids = call('ZRANGEBYSCORE', from.base .. ':order', '(' .. text(after), '+inf',
            'LIMIT', 0, 100)
        if #ids == 0 then break end
        for _, id in ipairs(ids) do
            local m = message_load(from, id)
            after = m.order
            if count >= limit or is_full(to, m) then return count end
            if m.state ~= 'F' then
                revive(m, from, to)
                count = count + 1
            end
        end
    end
    return count
end

function admin.redrive(topic)
    local base = topic_open(strip(KEYS[1]), false)
    local from = topic
    if not topic.is_dead then from = not topic.is_absent and topic_dead(topic) or nil end
    if not from or from.is_absent then
        if base.is_absent then return unknown() end
        return answer_of(0)
    end
    local to = topic_open(KEYS[4], false)
    if to.is_absent then
        local answer = not_yet(5)
        if answer then return answer end
        topic_create(to, arg(1), tonumber(arg(2)))
        set(to, 'history', arg(3))
    else
        due_move(to)
    end
    return answer_of(redrive(from, to))
end

-- The topic stands in the list of topics under that number now.
function admin.number(topic)
    if not topic.is_absent and topic.number == 0 then set(topic, 'number', tonumber(arg(2))) end
    return {0, now_us, 0, 0}
end

-- What was due is done already.
function admin.sweep(topic)
    if not topic.is_absent and not topic.is_dead then topic_dead(topic) end
    return answer_of(0)
end

local function main()
    local answer = repeated_answer()
    if answer then return answer end
    if ARGV[1] ~= 'sweep' then begin(ARGV[1] == 'configure') end
    forget()
    answer = admin[ARGV[1]](topic_begin())
    if answer[1] ~= 1 and answer[1] ~= 2 then return remember(answer) end
    forget(true)
    return answer
end

return finish(main())
