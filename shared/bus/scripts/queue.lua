-- How much waits for an agent in one shard, for metrics. Writes nothing.
--
-- KEYS  1 work:<agent>
-- Reply  entries that wait or are in flight, how many ms the oldest of them is there
--
-- The oldest entry may have 64 KiB and more, and every worker asks each second: it does not leave Redis.

local work = KEYS[1]
local age, oldest = 0, redis.call('XRANGE', work, '-', '+', 'COUNT', 1)[1]
if oldest then
  local now = redis.call('TIME')
  age = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(oldest[1], '^%d+'))
end
-- Whoever gave an entry an id of their own may have given it one of the future.
return { redis.call('XLEN', work), math.max(age, 0) }
