-- What is in the lanes of one story, all at one moment. Writes nothing. Run with lane.lua in front.
--
-- KEYS  1 drafts:<story>   2 … the lanes, three keys each: work, turn, parked
-- ARGV  for each lane its agent
-- Reply for each lane {turn, state, draft, waiting}
--   turn     '' = none
--   state    of that entry: absent | stranded | running
--   draft    1 when a response is being written
--   waiting  {id, event} of the entry and of all that is parked; the event only of one that is held, else ''
--
-- An event may have 64 KiB and a thousand may be parked, so that one leaves Redis only where its causes are of interest:
-- a held response stands for the actions that it answers.

local function named(fields)
  local found = {}
  for i = 1, #fields, 2 do
    found[fields[i]] = fields[i + 1]
  end
  return { found.id or '', found.held and found.e or '' }
end

local lanes = {}
for i, agent in ipairs(ARGV) do
  local lane, waiting, state = lane_at(3 * i - 1), {}, 'absent'
  local turn = redis.call('GET', lane.turn)
  local entry = turn and redis.call('XRANGE', lane.work, turn, turn)[1]
  if entry then
    state = stranded(lane.work, turn) and 'stranded' or 'running'
    waiting[1] = named(entry[2])
  end
  for _, packed in ipairs(redis.call('LRANGE', lane.parked, 0, -1)) do
    waiting[#waiting + 1] = named(unpacked(packed))
  end
  lanes[i] = { turn or '', state, redis.call('HEXISTS', KEYS[1], agent), waiting }
end
return lanes
