-- Takes over entries whose lease ran out, one page of the pending list at a time.
--
-- KEYS  1 work:<agent>
-- ARGV  1 consumer  2 lease, ms  3 cursor (0-0 = from the start)  4 how many at most
-- Reply  {next cursor, {{entry, deliveries, {name, value, …}} …}}; a next cursor of 0-0 ends the round
--
-- The cursor must be carried: a page looks at ten times as many entries as it may claim, so one that always starts
-- anew never sees the tail. Entries that were deleted drop out of the pending list here.

local work = KEYS[1]
local page = redis.pcall('XAUTOCLAIM', work, 'fleet', ARGV[1], ARGV[2], ARGV[3], 'COUNT', ARGV[4])
if page.err then
  if string.find(page.err, 'NOGROUP', 1, true) then
    return { '0-0', {} }
  end
  return page
end
local claimed = {}
for i, entry in ipairs(page[2]) do
  local rows = redis.call('XPENDING', work, 'fleet', entry[1], entry[1], 1)
  claimed[i] = { entry[1], rows[1][4], entry[2] }
end
return { page[1], claimed }
