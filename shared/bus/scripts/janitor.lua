-- Forgets consumers that are gone: nothing pending, and not heard of for a while.
--
-- KEYS  1 work:<agent>
-- ARGV  1 idle time, ms
-- Reply  the names that were removed
--
-- Both conditions are looked at in the same script as the removal: XGROUP DELCONSUMER destroys what is pending, so an
-- entry read in between would be lost.

local work, removed = KEYS[1], {}
local consumers = redis.pcall('XINFO', 'CONSUMERS', work, 'fleet')
if consumers.err then
  if string.find(consumers.err, 'NOGROUP', 1, true) or string.find(consumers.err, 'no such key', 1, true) then
    return removed
  end
  return consumers
end
for _, row in ipairs(consumers) do
  local consumer = {}
  for i = 1, #row, 2 do
    consumer[row[i]] = row[i + 1]
  end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[1]) then
    redis.call('XGROUP', 'DELCONSUMER', work, 'fleet', consumer.name)
    removed[#removed + 1] = consumer.name
  end
end
return removed
