-- What becomes of deliveries: ack, nack, extend, return, and delete. ARGV after the common
-- ones: 1 delay_ms or '' (nack), 2 whether to bury (nack), 3 visibility_ms (extend), then
-- message id and attempt for each. The answer goes on with a status for each.
local function arg(i) return ARGV[ARGS + i] end

-- Where a message of this topic stands: here, among its dead letters, or in the topic to
-- which it was redriven.
local function find(topic, id)
    for _ = 1, 2 do
        local m = message_load(topic, id)
        if m then return topic, m end
        if not topic.is_dead then
            local dead = topic_dead(topic)
            m = not dead.is_absent and message_load(dead, id)
            if m then return dead, m end
        end
        local base = call('HGET', topic.base .. ':moved', id)
        if not base then return nil end
        topic = topic_open(base, false)
        due_move(topic)
    end
    return nil
end

local settle = {}

function settle.ack(topic, m)
    add(topic, 'acked', 1)
    remove(topic, m)
end

function settle.nack(topic, m)
    -- An expiry has counted the failure already when the message is no more in flight.
    if m.state == 'F' then count_failure(topic, m) end
    m.settled = 's'
    if (arg(2) == '1' and not topic.is_dead) or is_worn_out(topic, m) then
        return bury(topic, m, now)
    end
    local delay_ms = tonumber(arg(1)) or backoff_ms(topic, m)
    if delay_ms == 0 then return make_ready(topic, m) end
    timer_set(topic, m, now + delay_ms)
    move(topic, m, 'D')
end

function settle.extend(topic, m)
    timer_set(topic, m, now + arg(3))
    move(topic, m, 'F')
    local known = call('HGET', topic.flight, m.id)
    local consumer = known and known:match('consumer=.*$') or 'consumer='
    call('HSET', topic.flight, m.id,
        format('attempt=%.0f until=%.0f ', m.attempt, now + arg(3)) .. consumer)
end

-- It never left the node: it counts neither as a delivery nor as a failure.
settle['return'] = function(topic, m)
    if m.state ~= 'F' then return end
    m.settled = 's'
    m.deliveries = m.deliveries - 1
    add(topic, 'delivered', -1)
    make_ready(topic, m)
end

-- 0 if the delivery may still be acted on: the last one, and not given back since. One that
-- timed out counts until the message is handed out again. Of dead letters only the ack is
-- still of use.
local function status_of(topic, m, attempt)
    if not m then return -12 end
    if ARGV[1] == 'delete' then return 0 end
    if attempt < m.attempt or m.settled == 's' then return -11 end
    if attempt > m.attempt then return -12 end
    if ARGV[1] ~= 'ack' and topic.is_dead and m.state ~= 'F' then return -11 end
    return 0
end

local function main()
    local answer = repeated_answer()
    if answer then return answer end
    begin()
    forget()
    local home = topic_begin()
    local one = ARGV[1] == 'delete' and remove or settle[ARGV[1]]
    local statuses = {}
    for i = ARGS + 4, #ARGV, 2 do
        local topic, m
        if not home.is_absent then topic, m = find(home, ARGV[i]) end
        local status = status_of(topic, m, tonumber(ARGV[i + 1]))
        if status == 0 then one(topic, m) end
        statuses[#statuses + 1] = status
    end
    return remember(answer_of(unpack(statuses)))
end

return finish(main())
