-- Says that tokens count no more, and tells every node at once.
--
-- KEYS  1 revoked  2 revoked-until  3 channel of revocations
-- ARGV  1 jti:<jti> | sub:<sub>  2 tokens issued up to then, unix s  3 when the last of them expires, unix s
--       4 how many that are over may be removed
-- Reply {at until}, as they are stored now
--
-- Invariants
-- - revoked holds "<at> <until>" for each name, revoked-until the same names by <until>. Both are written, or neither.
-- - Neither number of a name ever gets smaller while it is there: a repeated or a late call undoes nothing.
-- - A name goes only a minute after its last token expired: clocks differ, and nodes accept a token a little longer.
-- - What is published is what is stored. A message that cannot be sent does not undo it: nodes read the whole set again
--   and again.

local GRACE = 60

local what, at, till = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HGET', KEYS[1], what)
local now = tonumber(redis.call('TIME')[1])
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - GRACE, 'LIMIT', 0, ARGV[4])
for _, name in ipairs(over) do
  redis.call('HDEL', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
end

if known then
  local before, last = string.match(known, '^(%d+) (%d+)$')
  at = math.max(at, tonumber(before) or 0)
  till = math.max(till, tonumber(last) or 0)
end
local times = string.format('%.0f %.0f', at, till)
redis.call('HSET', KEYS[1], what, times)
redis.call('ZADD', KEYS[2], string.format('%.0f', till), what)
redis.pcall('SPUBLISH', KEYS[3], times .. ' ' .. what)
return { string.format('%.0f', at), string.format('%.0f', till) }
