-- Takes over entries whose lease ran out, oldest first.
--
-- KEYS  1 work:<agent>
-- ARGV  1 consumer  2 lease, ms  3 how many at most
-- Reply  {{entry, deliveries, who had it, {name, value, …}} …}; fewer than asked for = there are no more, or some of the
--        first were deleted
--
-- It finds them behind however many that are alive. (XAUTOCLAIM looks at ten times as many as it may claim: a worker
-- with one free slot would need many of its pages.) Entries that were deleted drop out of the pending list here.

local work, consumer, lease = KEYS[1], ARGV[1], ARGV[2]
local rows = redis.pcall('XPENDING', work, 'fleet', 'IDLE', lease, '-', '+', ARGV[3])
if rows.err then
  if string.find(rows.err, 'NOGROUP', 1, true) then
    return {}
  end
  return rows
end
local claimed = {}
for _, row in ipairs(rows) do
  local entry = redis.call('XCLAIM', work, 'fleet', consumer, lease, row[1])[1]
  if entry then
    claimed[#claimed + 1] = { entry[1], row[4] + 1, row[2], entry[2] }
  end
end
return claimed
