-- Sets a lane going whose turn is nobody's, and drops its agent's draft. Run with lane.lua in front.
--
-- KEYS  1 2 3 the lane: work, turn, parked   4 drafts of the story
-- ARGV  1 agent  2 the oldest entry of the story in work, when that was looked at; empty: none
-- Reply {OK}
--
-- Looks again by itself: a lane whose turn is in work, held or to be delivered, is left as it is, so that nothing in
-- flight is disturbed. A stranded entry is admitted again in its own place. An entry whose turn was taken away has it again,
-- so that nothing goes beside it.

local lane = lane_at(1)
local turn = redis.call('GET', lane.turn)
if not turn and ARGV[2] ~= '' and redis.call('XRANGE', lane.work, ARGV[2], ARGV[2])[1] then
  turn = ARGV[2]
  redis.call('SET', lane.turn, turn)
end
local entry = turn and redis.call('XRANGE', lane.work, turn, turn)[1]
if entry and not stranded(lane.work, turn) then
  return { 'OK' }
end
redis.call('HDEL', KEYS[4], ARGV[1])
if entry then
  start(lane, entry[2])
  redis.call('XDEL', lane.work, turn)
else
  advance(lane, turn)
end
return { 'OK' }
