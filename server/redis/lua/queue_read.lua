-- queue.info and queue.peek. ARGV after the common ones: 1 whether the dead letters are
-- meant, 2 a message's id or '', 3 the id after which the page begins or '', 4 limit, 5 bytes
-- of bodies after the first message. Beside what became due nothing changes.
local function arg(i) return ARGV[ARGS + i] end

local function info(topic)
    local in_flight = call('HLEN', topic.flight)
    local dead = topic
    if not topic.is_dead then dead = topic_dead(topic) end
    return answer_of(topic.count - topic.delayed - in_flight, topic.delayed, in_flight,
        dead.count, topic.bytes, topic.published, topic.delivered, topic.acked, topic.failed,
        topic.expired, topic.paused, topic.visibility_ms, topic.deliveries_max,
        topic.retry_ms, topic.retry_max_ms, topic.dedup_ms, topic.ttl_ms, topic.messages_max,
        topic.bytes_max, topic.count)
end

local function show(topic, m)
    return {m.id, m.attempt, m.priority, m.group, call('HGET', topic.base .. ':msg', m.id),
        m.state}
end

-- The answer goes on with whether there are more, and the messages.
local function peek(topic)
    if arg(2) ~= '' then
        local m = message_load(topic, arg(2))
        if not m then
            return refuse(-4, 'id', 'there is no such message in the topic')
        end
        return answer_of(0, show(topic, m))
    end
    local from = '-inf'
    if arg(3) ~= '' then
        local m = message_load(topic, arg(3))
        if not m then return refuse(-12, 'after', 'that message is gone') end
        from = '(' .. text(m.order)
    end
    local limit, bytes_max, bytes = tonumber(arg(4)), tonumber(arg(5)), 0
    local ids = call('ZRANGEBYSCORE', topic.base .. ':order', from, '+inf', 'LIMIT', 0,
        limit + 1)
    local out, more = {}, #ids > limit and 1 or 0
    for i = 1, math.min(#ids, limit) do
        local m = message_load(topic, ids[i])
        bytes = bytes + m.size
        if i > 1 and bytes > bytes_max then
            more = 1
            break
        end
        out[i] = show(topic, m)
    end
    return answer_of(more, unpack(out))
end

local function main()
    local topic = topic_begin()
    if topic.is_absent then return refuse(-4, 'topic', 'there is no such topic') end
    if ARGV[1] == 'info' then return info(topic) end
    if arg(1) == '1' and not topic.is_dead then topic = topic_dead(topic) end
    if topic.is_absent then return answer_of(0) end
    return peek(topic)
end

return finish(main())
