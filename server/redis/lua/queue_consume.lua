-- queue.consume. ARGV after the common ones: 1 max, 2 visibility_ms or '', 3 bytes of bodies
-- after the first message, 4 consumer, 5 for how long the caller waits, in ms, or ''. The
-- answer goes on with how many more there are, in how many ms to look again (-1: nothing is
-- due), and the deliveries: message id, attempt, priority, group, body.
local function arg(i) return ARGV[ARGS + i] end

local function due_in(topic)
    local bases, least = {topic.base}, nil
    if topic.is_dead then bases[2] = topic.base:sub(1, -6) end
    for _, base in ipairs(bases) do
        local first = call('ZRANGE', base .. ':due', 0, 0, 'WITHSCORES')[2]
        if first and (not least or first + 0 < least) then least = first + 0 end
    end
    return least and math.max(least - now, 0) or -1
end

local function hand_out(topic, m, visibility_ms)
    if m.scope == '1' then unique_release(topic, m) end
    m.attempt = m.attempt + 1
    m.deliveries = m.deliveries + 1
    m.settled = '-'
    add(topic, 'delivered', 1)
    -- It is the first of where it stands.
    if m.place == 'l' then
        call('LPOP', list_of(topic, m.priority))
    else
        call('ZREM', topic.base .. ':back', m.id)
    end
    add(topic, 'poppable', -1)
    m.place, m.state = '-', 'F'
    timer_set(topic, m, now + visibility_ms)
    call('HSET', topic.flight, m.id,
        format('attempt=%.0f until=%.0f consumer=', m.attempt, now + visibility_ms) .. arg(4))
    message_save(topic, m)
    return {m.id, m.attempt, m.priority, m.group, call('HGET', topic.base .. ':msg', m.id)}
end

local function consume(topic, out)
    local visibility_ms = tonumber(arg(2)) or topic.visibility_ms
    local max, bytes_max, bytes = tonumber(arg(1)), tonumber(arg(3)), 0
    local expired = 0
    while #out < max and expired < DUE_MAX do
        local m = ready_first(topic)
        if not m then return end
        if m.expires_at ~= 0 and now >= m.expires_at then
            add(topic, 'expired', 1)
            remove(topic, m)
            expired = expired + 1
        else
            bytes = bytes + m.size
            if #out > 0 and bytes > bytes_max then return end
            out[#out + 1] = hand_out(topic, m, visibility_ms)
        end
    end
end

local function main()
    local answer = repeated_answer()
    if answer then return answer end
    forget()
    local topic = topic_begin()
    local out = {}
    topic.wakes = false -- what became ready is taken here, or told by `left`
    if not topic.is_absent and topic.paused == 0 and topic.poppable > 0 then
        begin()
        consume(topic, out)
    end
    if arg(5) ~= '' and #out == 0 then
        begin()
        call('SET', topic.base .. ':awaited', '1', 'PX', arg(5))
    end
    local left = topic.paused == 0 and topic.poppable or 0
    answer = answer_of(left, due_in(topic), unpack(out))
    if #out > 0 then return remember(answer) end
    forget(true)
    return answer
end

return finish(main())
