-- Accepts a person's event: once, into the log, and into the lane of each agent that acts on it. Public contract.
-- Run with lane.lua in front.
--
-- KEYS  1 ctx:<story>  2 seen:<story>  3 log:<story>  4 live:<story>
--       5 6 7 the moderator's lane: work, turn, parked
--       8 … the lanes of the routed agents, three keys each
-- ARGV  1 story  2 event id  3 event type  4 event JSON
--       5 how many events may be parked in one lane
--       6 how long an id is remembered, ms
--       7 … the part of each routed step, one for each lane in KEYS
--
-- Replies  {OK, seq}   in the log and admitted
--          {HELD}      an action of a story whose input policy is hold: with the moderator, not in the log
--          {DUP}       the id was accepted before: nothing written
--          {FULL}      a lane has no room: nothing written
--          {NOSTORY}   there is no such story: nothing written
-- After an error neither; where the log is ahead of the story's count, that is one higher, so that sending again ends.
--
-- The JSON is not read here. An event that does not have this story and id is buried by the first agent that reads it.
-- An id is accepted at most once within the time it is remembered, so a lost reply is answered by sending it again.

local ctx, seen, log, live = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local story, id, kind, event = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local limit, remembered = tonumber(ARGV[5]), tonumber(ARGV[6])

if redis.call('EXISTS', ctx) == 0 then
  return { 'NOSTORY' }
end
if redis.call('ZSCORE', seen, id) then
  return { 'DUP' }
end

local hold = kind == 'action' and redis.call('HGET', ctx, 'input') == 'hold'
local steps = {}
if hold then
  steps[1] = { lane = lane_at(5), part = '0' }
else
  for i = 7, #ARGV do
    steps[#steps + 1] = { lane = lane_at(8 + 3 * (i - 7)), part = ARGV[i] }
  end
end
for _, step in ipairs(steps) do
  must_be_lane(step.lane)
  if redis.call('LLEN', step.lane.parked) >= limit then
    return { 'FULL' }
  end
end

local reply = { 'HELD' }
if not hold then
  must_be('stream', log)
  -- First: what a log refuses that is ahead of its count must not be remembered as accepted.
  reply = { 'OK', record(ctx, log, live, event) }
end
local now = now_ms()
redis.call('ZADD', seen, now, id)
redis.call('ZREMRANGEBYSCORE', seen, '-inf', '(' .. (now - remembered))
for _, step in ipairs(steps) do
  admit(step.lane, entry_of(story, id, step.part, event, hold))
end
return reply
