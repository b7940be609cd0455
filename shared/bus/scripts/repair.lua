-- Sets a lane going whose turn is nobody's, and drops its agent's draft. Run with lane.lua in front.
--
-- KEYS  1 2 3 the lane: work, turn, parked   4 drafts of the story
-- ARGV  1 agent  2 … the entries of the story in work, oldest first, when that was looked at
-- Reply {OK}; or {KEPT} when an entry without the turn is being worked on: it is not disturbed
--
-- Looks again by itself: a lane whose turn is in work, held or to be delivered, is left as it is, so that nothing in
-- flight is disturbed. A stranded entry is admitted again in its own place. An entry whose turn was taken away has it again,
-- so that nothing goes beside it; where another has the turn by now, it waits behind that one, before all others.

local lane = lane_at(1)
local turn = redis.call('GET', lane.turn)
local others, kept = {}, false
for i = 2, #ARGV do
  local entry = ARGV[i] ~= turn and redis.call('XRANGE', lane.work, ARGV[i], ARGV[i])[1]
  if entry and not turn then
    turn = ARGV[i]
    redis.call('SET', lane.turn, turn)
  elseif entry then
    others[#others + 1] = entry
  end
end
for i = #others, 1, -1 do
  local id, fields = others[i][1], others[i][2]
  if stranded(lane.work, id) then
    redis.call('LPUSH', lane.parked, pack(fields))
    redis.call('XDEL', lane.work, id)
  else
    kept = true
  end
end
local entry = turn and redis.call('XRANGE', lane.work, turn, turn)[1]
if not entry or stranded(lane.work, turn) then
  redis.call('HDEL', KEYS[4], ARGV[1])
  if entry then
    start(lane, entry[2])
    redis.call('XDEL', lane.work, turn)
  else
    advance(lane, turn)
  end
end
return { kept and 'KEPT' or 'OK' }
