-- How much waits for an agent in one shard, for metrics. Writes nothing.
--
-- KEYS  1 work:<agent>
-- Reply  entries that wait or are in flight, how many ms the oldest of them is there
--
-- Every worker asks each second, and an entry may have 64 KiB and more. Entries are given out in their order, so that the oldest
-- is the first of the pending list, which has ids alone. While nothing is in flight the entry itself is read, and does not
-- leave Redis.

local work = KEYS[1]
local length = redis.call('XLEN', work)
if length == 0 then
  return { 0, 0 }
end
-- Without a group nothing is in flight.
local row = redis.pcall('XPENDING', work, 'fleet', '-', '+', 1)[1]
local oldest = row and row[1] or redis.call('XRANGE', work, '-', '+', 'COUNT', 1)[1][1]
local now = redis.call('TIME')
local age = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(oldest, '^%d+'))
-- Whoever gave an entry an id of their own may have given it one of the future.
return { length, math.max(age, 0) }
