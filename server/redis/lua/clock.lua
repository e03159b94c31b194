-- The time of every decision of a script: Redis's own, so that all nodes agree.
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
-- How long Redis keeps what counts for so many ms.
local function keep_ms(ms) return string.format('%.0f', ms) end
