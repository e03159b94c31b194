-- What another engine held, before any node serves: topic, message, window, fence. Each may
-- come twice. ARGV after the common ones, of topic: 1 name, 2 number, 3 history, then names
-- and values of settings and counters; of message: 1 id, 2 body, 3 number, 4 state, 5 when
-- it is due, 6 priority, 7 expiry, 8 attempt, 9 deliveries, 10 failures, 11 whether it was
-- settled, 12 cost, 13 size, 14 group, 15 scope of the unique key, 16 unique key, 17 home; of
-- window: 1 ending of the key, 2 message id, 3 until when; of fence: 1 ending of the key,
-- 2 fence, 3 how long it is kept.
local function arg(i) return ARGV[ARGS + i] end

local import = {}

function import.topic(topic)
    local number = tonumber(arg(2))
    if topic.is_absent then topic_create(topic, arg(1), number) end
    set(topic, 'number', number)
    set(topic, 'history', arg(3))
    for i = ARGS + 4, #ARGV, 2 do set(topic, ARGV[i], tonumber(ARGV[i + 1])) end
end

function import.message(topic)
    local id = arg(1)
    if call('HEXISTS', topic.base .. ':state', id) == 1 then return end
    add(topic, 'order', 1)
    local m = {
        id = id, number = arg(3) + 0, order = topic.order, state = arg(4), place = '-',
        settled = arg(11), ghost = '-', priority = arg(6) + 0, expires_at = arg(7) + 0,
        attempt = arg(8) + 0, deliveries = arg(9) + 0, failures = arg(10) + 0,
        cost = arg(12) + 0, size = arg(13) + 0, group = arg(14), scope = arg(15),
        unique = arg(16), home = arg(17) == '1' and topic.base or '',
    }
    if m.state == 'D' then
        timer_set(topic, m, arg(5) + 0)
    elseif m.expires_at ~= 0 then
        timer_set(topic, m, m.expires_at)
    end
    if m.scope ~= '0' then call('HSET', topic.base .. ':unique', m.unique, id) end
    call('HSET', topic.base .. ':msg', id, arg(2))
    attach(topic, m, true)
end

function import.window(topic)
    local left = arg(3) - now
    if left > 0 then
        call('SET', topic.base .. arg(1), arg(3) .. ' ' .. arg(2), 'PX', keep_ms(left))
    end
end

function import.fence(topic)
    call('SET', topic.base .. arg(1), format('%s until=%.0f', arg(2), now + arg(3)), 'PX',
        keep_ms(arg(3)))
end

begin(true)
import[ARGV[1]](topic_open(KEYS[1], ARGV[2] == '1'))
return finish({0, now_us, 0})
