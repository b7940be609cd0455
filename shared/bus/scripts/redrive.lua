-- Puts a dead letter into its lane again, behind what waits there. Run with lane.lua in front.
--
-- KEYS  1 dead:<agent>   2 3 4 its lane: work, turn, parked   5 redriven:<story>
-- ARGV  1 dead letter   2 … the ids whose end it may bring: its own, and when held those it answers
--
-- Replies  {OK}    it is in its lane again
--          {GONE}  there is no such dead letter: nothing written. After a lost reply of the same call: done
--
-- Letter and entry are never both there, so that however often this runs, an event is redriven once for each burial.
-- How often is counted: the audit allows an event that failed as many more ends, and no other. The letter goes last: when
-- Redis refuses one of the steps, it is still there.

local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return { 'GONE' }
end
local of_the_entry = { story = true, id = true, part = true, e = true, held = true }
local fields = {}
for i = 1, #letter[2], 2 do
  if of_the_entry[letter[2][i]] then
    fields[#fields + 1] = letter[2][i]
    fields[#fields + 1] = letter[2][i + 1]
  end
end
-- Whatever is at the lane's keys that is none is met here, with nothing counted yet.
local lane = lane_at(2)
redis.call('XLEN', lane.work)
redis.call('GET', lane.turn)
redis.call('LLEN', lane.parked)
for i = 2, #ARGV do
  redis.call('HINCRBY', KEYS[5], ARGV[i], 1)
end
admit(lane, fields)
redis.call('XDEL', KEYS[1], ARGV[1])
return { 'OK' }
