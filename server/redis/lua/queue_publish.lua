-- queue.publish: all messages or none.
-- KEYS 4, 5: see is_as_told. ARGV after the common ones: 1 name, 2 number or '', 3 history,
-- 4 the beginning of ids, 5 its CRC-32C, 6 fence or '', 7 whether it has a name, 8 that, 9 how
-- long a fence is kept, 10 whether the history was asked for just now, 11 the bits of the
-- beginning that do not fill a digit, 12 how many they are, then for each message:
-- body, cost, size, priority, group, delay_ms, deliver_at, ttl_ms, publish id, scope of the
-- unique key, unique key.
local BEFORE = 12
local EACH = 11
local SCOPE_QUEUED, SCOPE_ACKED, SCOPE_WINDOW = '1', '2', '3'

local function arg(i) return ARGV[ARGS + i] end

-- CRC-32C, half a byte at a time; the state is not inverted.
local CRC = {
    [0] = 0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362,
    0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab,
    0xe330a81a, 0xf36e6f75,
}
local bxor, band, bnot, rshift = bit.bxor, bit.band, bit.bnot, bit.rshift
local DIGITS = 'abcdefghijklmnopqrstuvwxyz234567'

-- The text of a message's id: see core/api/delivery_id.h. Its number is the topic's, times
-- 2^40, plus the message's own, as a varint, which the two parts never leave as one number.
local id_head, id_crc, id_bits, id_bit_count = arg(4), bit.bnot(arg(5)), arg(11) + 0, arg(12) + 0

local function id_text(topic, number)
    local bytes, count = {}, 5
    local low, high = number, topic.number * 32 + math.floor(number / 2 ^ 35)
    for i = 1, 5 do
        bytes[i] = 128 + low % 128
        low = math.floor(low / 128)
    end
    while high >= 128 do
        count = count + 1
        bytes[count] = 128 + high % 128
        high = math.floor(high / 128)
    end
    count = count + 1
    bytes[count] = high
    local crc = id_crc
    for i = 1, count do
        crc = bxor(crc, bytes[i])
        crc = bxor(CRC[band(crc, 15)], rshift(crc, 4))
        crc = bxor(CRC[band(crc, 15)], rshift(crc, 4))
    end
    crc = bnot(crc)
    for i = 1, 3 do bytes[count + i] = band(rshift(crc, 8 * (i - 1)), 255) end

    local out, size, bits, bit_count = {id_head}, 1, id_bits, id_bit_count
    for i = 1, count + 3 do
        bits, bit_count = bits * 256 + bytes[i], bit_count + 8
        repeat
            bit_count = bit_count - 5
            local digit = rshift(bits, bit_count)
            size = size + 1
            out[size] = DIGITS:sub(digit + 1, digit + 1)
            bits = bits - digit * 2 ^ bit_count
        until bit_count < 5
    end
    if bit_count > 0 then
        local digit = bits * 2 ^ (5 - bit_count)
        out[size + 1] = DIGITS:sub(digit + 1, digit + 1)
    end
    return table.concat(out)
end

local function message_in(i)
    local at = ARGS + BEFORE + (i - 1) * EACH
    return {
        body = ARGV[at + 1], cost = ARGV[at + 2] + 0, size = ARGV[at + 3] + 0,
        priority = ARGV[at + 4] + 0, group = ARGV[at + 5], delay_ms = ARGV[at + 6] + 0,
        deliver_at = ARGV[at + 7] + 0, ttl_ms = ARGV[at + 8] + 0, publish_id = ARGV[at + 9],
        scope = ARGV[at + 10], unique = ARGV[at + 11],
    }
end

-- The id that stands for a window under that key, while it does.
local function window_find(key)
    local value = call('GET', key)
    if not value then return nil end
    local expires_at, id = value:match('^(%d+) (.*)$')
    return now < expires_at + 0 and id or nil
end

local function window_keep(topic, key, id)
    if topic.dedup_ms == 0 then return end
    call('SET', key, text(now + topic.dedup_ms) .. ' ' .. id, 'PX', keep_ms(topic.dedup_ms))
end

local function publish_id_key(topic, input) return topic.base .. ':id:' .. input.publish_id end
local function window_key(topic, input) return topic.base .. ':window:' .. input.unique end

-- The id of the message with which the unique key goes. One that was redriven may have been
-- purged elsewhere: its key is free.
local function held_by(topic, unique)
    local id = call('HGET', topic.base .. ':unique', unique)
    if not id or call('HEXISTS', topic.base .. ':state', id) == 1 then return id end
    local base = call('HGET', topic.base .. ':moved', id)
    return base and call('HEXISTS', base .. ':state', id) == 1 and id
end

-- The id of the first message that this one repeats.
local function repeated(topic, input)
    local id = input.publish_id ~= '' and window_find(publish_id_key(topic, input))
    if not id and input.scope ~= '0' then
        id = held_by(topic, input.unique) or window_find(window_key(topic, input))
    end
    return id
end

-- The number of a message: the milliseconds since 2020, or one more than the last one where that
-- is higher. So a replica that was behind when it became the master gives no number again that
-- stands in ids already.
local function number_next(topic)
    set(topic, 'last', math.max(topic.last + 1, now - 1577836800000))
    return topic.last
end

local function enter(topic, input)
    add(topic, 'order', 1)
    local number = number_next(topic)
    add(topic, 'published', 1)
    local ttl_ms = input.ttl_ms ~= 0 and input.ttl_ms or topic.ttl_ms
    local m = {
        id = id_text(topic, number), number = number, order = topic.order,
        state = 'R', place = '-', settled = '-', ghost = '-', priority = input.priority,
        expires_at = ttl_ms ~= 0 and now + ttl_ms or 0, attempt = 0, deliveries = 0,
        failures = 0, cost = input.cost, size = input.size, group = input.group,
        scope = '0', unique = '', home = topic.is_dead and topic.base or '',
    }
    if input.deliver_at > now then
        m.state = 'D'
        timer_set(topic, m, input.deliver_at)
    elseif input.deliver_at == 0 and input.delay_ms ~= 0 then
        m.state = 'D'
        timer_set(topic, m, now + input.delay_ms)
    elseif m.expires_at ~= 0 then
        timer_set(topic, m, m.expires_at)
    end
    if input.scope == SCOPE_WINDOW then
        window_keep(topic, window_key(topic, input), m.id)
    elseif input.scope ~= '0' then
        m.scope, m.unique = input.scope, input.unique
        call('HSET', topic.base .. ':unique', m.unique, m.id)
    end
    call('HSET', topic.base .. ':msg', m.id, input.body)
    attach(topic, m, true)
    return m.id
end

local function publish_one(topic, input)
    local id = repeated(topic, input) or enter(topic, input)
    -- Also when a unique key refused it: a later repeat gets the same answer.
    if input.publish_id ~= '' and not window_find(publish_id_key(topic, input)) then
        window_keep(topic, publish_id_key(topic, input), id)
    end
    return id
end

local function no_room(topic, inputs)
    local count, bytes = 0, 0
    for _, input in ipairs(inputs) do
        if not repeated(topic, input) then
            count, bytes = count + 1, bytes + input.cost
        end
    end
    if count == 0 then return nil end
    if topic.messages_max ~= 0 and topic.count + count > topic.messages_max then
        return refuse(-18, 'topic', 'the topic holds ' .. text(topic.count) ..
            ' of at most ' .. text(topic.messages_max) .. ' messages')
    end
    if topic.bytes_max ~= 0 and topic.bytes + bytes > topic.bytes_max then
        return refuse(-18, 'topic', 'the topic holds ' .. text(topic.bytes) ..
            ' of at most ' .. text(topic.bytes_max) .. ' bytes')
    end
    return nil
end

local function publish(topic)
    local fence_key = topic.base .. (arg(7) == '1' and ':fence:' .. arg(8) or ':fence')
    local fence = tonumber(arg(6))
    local known = fence and call('GET', fence_key)
    local highest, idle_at = (known or ''):match('^(%d+) until=(%d+)$')
    highest = highest and now < idle_at + 0 and highest + 0
    if highest and fence < highest then
        return refuse(-27, 'fence', 'fence ' .. text(fence) .. ' is below ' .. text(highest),
            highest)
    end
    local inputs = {}
    for i = 1, (#ARGV - ARGS - BEFORE) / EACH do inputs[i] = message_in(i) end
    local refusal = no_room(topic, inputs)
    if refusal then return refusal end
    if topic.is_absent then topic_create(topic, arg(1), 0) end
    if topic.number == 0 then set(topic, 'number', tonumber(arg(2))) end
    if topic.history ~= arg(3) then set(topic, 'history', arg(3)) end
    needs_listing = false
    local ids = {}
    for i, input in ipairs(inputs) do ids[i] = publish_one(topic, input) end
    if fence then
        call('SET', fence_key, format('%.0f until=%.0f', fence, now + arg(9)), 'PX',
            keep_ms(arg(9)))
    end
    return answer_of(unpack(ids))
end

local function main()
    local answer = repeated_answer()
    if answer then return answer end
    local topic = topic_open(KEYS[1], ARGV[2] == '1')
    if topic.history ~= '' and topic.history ~= arg(3) and arg(10) ~= '1' then
        return {2, now_us, 0}
    end
    if topic.number == 0 then
        if arg(2) == '' then return {1, now_us, 0} end
        if not is_as_told(4, arg(1), arg(2), arg(3)) then return {2, now_us, 0} end
    end
    begin(true)
    forget()
    return remember(publish(topic_begin()))
end

return finish(main())
