-- Says who is in a story at a node, or that the node left it; tells the story's room when the people changed.
--
-- KEYS  1 here:<story>  2 here-until:<story>  3 channel room:<story>
-- ARGV  1 node  2 how long it counts, ms; 0 = the node leaves  3 digest of the people  4 the people
-- Reply 1 = the people changed, 0 = they did not
--
-- Invariants
-- - here holds "<digest> <people>" for each node, here-until the same nodes by the time in ms of Redis's clock up to which
--   they count. Both are written, or neither.
-- - A node that is over by then counts for nobody (who.lua); it is removed here, some at a time. Both keys expire with the
--   last node.
-- - A message that cannot be sent undoes nothing: it is a hint.

local node, life = ARGV[1], tonumber(ARGV[2])
local known = redis.call('HGET', KEYS[1], node)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changed = false
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 64)
for _, dead in ipairs(over) do
  redis.call('HDEL', KEYS[1], dead)
  redis.call('ZREM', KEYS[2], dead)
  changed = true
end

if life == 0 then
  changed = changed or known
  redis.call('HDEL', KEYS[1], node)
  redis.call('ZREM', KEYS[2], node)
else
  changed = changed or not known or string.sub(known, 1, #ARGV[3] + 1) ~= ARGV[3] .. ' '
  redis.call('HSET', KEYS[1], node, ARGV[3] .. ' ' .. ARGV[4])
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + life), node)
  local last = string.format('%.0f', redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2])
  redis.call('PEXPIREAT', KEYS[1], last)
  redis.call('PEXPIREAT', KEYS[2], last)
end
if not changed then
  return 0
end
redis.pcall('SPUBLISH', KEYS[3], 'here')
return 1
