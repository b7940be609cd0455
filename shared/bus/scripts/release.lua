-- Lets leases go at drain: the entries can be claimed at once, and this delivery is not counted as an attempt. Whoever asks
-- again changes nothing more: a client may send it twice by itself.
--
-- KEYS  1 work:<agent>
-- ARGV  1 consumer  2 how old they are made, ms: past every lease  3 … entries
-- Reply  how many were let go; those that it does not hold any more, or let go before, are left alone

local work, consumer, age = KEYS[1], ARGV[1], ARGV[2]
local released = 0
for i = 3, #ARGV do
  local rows = redis.pcall('XPENDING', work, 'fleet', ARGV[i], ARGV[i], 1)
  if rows.err and not string.find(rows.err, 'NOGROUP', 1, true) then
    return redis.error_reply(rows.err)
  end
  if rows[1] and rows[1][2] == consumer and rows[1][3] < tonumber(age) then
    local count = math.max(rows[1][4] - 1, 0)
    redis.call('XCLAIM', work, 'fleet', consumer, 0, ARGV[i], 'IDLE', age, 'RETRYCOUNT', count, 'JUSTID')
    released = released + 1
  end
end
return released
