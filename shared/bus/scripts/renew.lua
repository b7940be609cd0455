-- Keeps leases: resets the idle time of each entry that the consumer still holds, and leaves its delivery count.
--
-- KEYS  1 work:<agent>
-- ARGV  1 consumer  2 … entries
-- Reply  {{entries that another consumer holds} {entries that nobody holds}}: it lost both. Nobody holds what was ended,
--        or what a group held that is gone
--
-- It claims only what is already its own. (XCLAIM alone would take an entry back from its new owner.)

local work, consumer = KEYS[1], ARGV[1]
local taken, gone = {}, {}
for i = 2, #ARGV do
  local rows = redis.pcall('XPENDING', work, 'fleet', ARGV[i], ARGV[i], 1)
  if rows.err and not string.find(rows.err, 'NOGROUP', 1, true) then
    return redis.error_reply(rows.err)
  end
  if not rows[1] then
    gone[#gone + 1] = ARGV[i]
  elseif rows[1][2] == consumer then
    redis.call('XCLAIM', work, 'fleet', consumer, 0, ARGV[i], 'JUSTID')
  else
    taken[#taken + 1] = ARGV[i]
  end
end
return { taken, gone }
