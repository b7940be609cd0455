-- Applies everything that a worker made of an entry. Run with lane.lua and recording.lua in front.
--
-- KEYS  1 ctx:<story>  2 log:<story>  3 live:<story>  4 drafts:<story>  5 gone:<story>  6 seen:<story>
--       7 rec:<story>
--       8 … L lanes, three keys each: work, turn, parked
--       then one draft:<response>: for each response; the keys of its attempts are this and the attempt's number
-- ARGV  1 story  2 agent  3 entry  4 consumer  5 L  6 own lane (1 … L)  7 the moderator's lane (1 … L)
--       then lists, each after its length:
--       consumed   id                               parked events answered in the same beat, from the head
--       fields     name, value                      of the context
--       retracted  seq, tombstone JSON              log events taken away
--       responses  id                               whose drafts are over
--       emitted    JSON, id, logged | held, list of (lane, part)
--       recorded   id of the entry's event, epoch, turns and ms to keep, bytes    at most one
--
-- Replies  {OK, seq …}  done; one seq for each logged event
--          {GONE}       the entry is nobody's: it was ended before. After a lost reply of the same call: done
--          {FENCED}     another consumer holds it now
--          {MOVED}      the consumed events are not at the head of the lane
-- After these but OK nothing is written, nor after an error, but for a log that is ahead of the story's count: it refuses
-- an event when the context's fields, what was taken back and the ends of drafts are written, and no entry has ended.
--
-- What ends entries comes last, those that joined the beat too: follow-ups go to the end of the own lane, so that its head
-- stays what was looked at, and they stand behind what waited there. Only the holder of the lease writes, so a worker that was
-- suspended or cut off changes nothing. The id of an event that is logged is taken: nobody can publish another one under
-- it. In a story that was deleted in the meantime the entry ends and nothing is recorded.

local ctx, log, live, drafts, gone, seen, rec = unpack(KEYS, 1, 7)
local story, agent, entry, consumer = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lanes = {}
for i = 1, tonumber(ARGV[5]) do
  lanes[i] = lane_at(5 + 3 * i)
end
local own, moderator = lanes[tonumber(ARGV[6])], lanes[tonumber(ARGV[7])]

local at = 7
local function take()
  at = at + 1
  return ARGV[at]
end
local function each(act)
  for i = 1, tonumber(take()) do
    act(i)
  end
end

local refused = refusal(own.work, entry, consumer)
if refused then
  return refused
end

local consumed = {}
each(function(i) consumed[i] = take() end)
if #consumed > 0 then
  local head = redis.call('LRANGE', own.parked, 0, #consumed - 1)
  for i, id in ipairs(consumed) do
    if not head[i] or unpacked(head[i])[4] ~= id then
      return { 'MOVED' }
    end
  end
end
local function finish_all()
  if #consumed > 0 then
    redis.call('LPOP', own.parked, #consumed)
  end
  finish(own.work, entry)
  advance(own, entry)
end

if redis.call('EXISTS', ctx) == 0 then
  finish_all()
  return { 'OK' }
end

each(function()
  local name, value = take(), take()
  redis.call('HSET', ctx, name, value)
end)
each(function()
  local seq, tombstone = take(), take()
  if redis.call('XDEL', log, seq .. '-0') == 1 then
    redis.call('HSET', gone, seq, tombstone)
  end
end)
-- Most answers leave no draft, and most of the others one: looked for together.
local over, bases = { agent }, {}
each(function(i)
  over[i + 1], bases[i + 1] = 'n:' .. take(), KEYS[7 + 3 * #lanes + i]
end)
local begun = redis.call('HMGET', drafts, unpack(over))
for i, attempt in ipairs(begun) do
  if attempt then
    redis.call('HDEL', drafts, over[i])
    if bases[i] then
      redis.call('DEL', bases[i] .. attempt)
    end
  end
end

local reply = { 'OK' }
each(function()
  local event, id, held = take(), take(), take() == 'held'
  if held then
    admit(moderator, entry_of(story, id, '0', event, true))
  else
    reply[#reply + 1] = record(ctx, log, live, event)
    redis.call('ZADD', seen, 'NX', now_ms(), id)
  end
  each(function()
    local lane, part = lanes[tonumber(take())], take()
    admit(lane, entry_of(story, id, part, event, false))
  end)
end)
each(function()
  local id, epoch, turns, ms, bytes = take(), take(), take(), take(), take()
  remember(rec, ctx, reply[2], agent, id, epoch, turns, ms, bytes)
end)
finish_all()
return reply
