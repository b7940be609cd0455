-- Lets the oldest events of a log go, some at a time. Run with lane.lua in front.
--
-- KEYS  1 ctx:<story>  2 log:<story>  3 gone:<story>
-- ARGV  1 how many of the last events stay  2 age in ms up to which any event stays  3 how many to look at
-- Reply how many were removed; 0 = there is no more to remove
--
-- The age is by Redis's own clock, not by the time that a producer wrote into its event. ctx keeps the time of the
-- newest event that went (`since`): what was accepted before is not missed by the audit.

local ctx, log, gone = KEYS[1], KEYS[2], KEYS[3]
local last = tonumber(redis.call('HGET', ctx, 'seq') or 0) - tonumber(ARGV[1])
if last < 1 then
  return 0
end
local oldest = now_ms() - tonumber(ARGV[2])
local upto, since
for _, entry in ipairs(redis.call('XRANGE', log, '-', last .. '-0', 'COUNT', ARGV[3])) do
  local at = 0
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 't' then
      at = tonumber(entry[2][i + 1]) or 0
    end
  end
  if at > oldest then
    break
  end
  upto, since = tonumber(string.match(entry[1], '^%d+')), at
end
if not upto then
  return 0
end

-- First, since a full Redis takes a write that adds only from a script that has written. Whoever may not do the second is
-- told so before.
local removed = redis.call('XTRIM', log, 'MINID', (upto + 1) .. '-0')
redis.call('HSET', ctx, 'since', string.format('%.0f', since))
for _, seq in ipairs(redis.call('HKEYS', gone)) do
  if tonumber(seq) <= upto then
    redis.call('HDEL', gone, seq)
  end
end
return removed
