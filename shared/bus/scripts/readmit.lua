-- Puts an action of the log into its lane again that nobody has and nobody answered. Run with lane.lua in front.
--
-- KEYS  1 ctx:<story>   2 3 4 its lane: work, turn, parked   5 redriven:<story>
-- ARGV  1 story  2 event id  3 part  4 event JSON
--       5 the log's end when it had no answer and was in no lane
--
-- Replies  {OK}     it is in its lane
--          {MOVED}  something was logged since, which may be its answer: nothing written
--
-- Looks again by itself, so that two who do it at once do it once. It is counted as a redrive is.

local id = ARGV[2]
if redis.call('HGET', KEYS[1], 'seq') ~= ARGV[5] then
  return { 'MOVED' }
end

local function is_there(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'id' then
      return fields[i + 1] == id
    end
  end
end

local lane = lane_at(2)
redis.call('XLEN', lane.work)
local turn = redis.call('GET', lane.turn)
local entry = turn and redis.call('XRANGE', lane.work, turn, turn)[1]
if entry and is_there(entry[2]) then
  return { 'OK' }
end
for _, packed in ipairs(redis.call('LRANGE', lane.parked, 0, -1)) do
  if is_there(unpacked(packed)) then
    return { 'OK' }
  end
end

redis.call('HINCRBY', KEYS[5], id, 1)
admit(lane, entry_of(ARGV[1], id, ARGV[3], ARGV[4], false))
return { 'OK' }
