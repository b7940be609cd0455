-- Applies everything that a worker made of an entry. Run with lane.lua and recording.lua in front.
--
-- KEYS  1 ctx:<story>  2 log:<story>  3 live:<story>  4 drafts:<story>  5 gone:<story>  6 seen:<story>
--       7 rec:<story>
--       8 … L lanes, three keys each: work, turn, parked
--       then one draft:<response>: for each response; the keys of its attempts are this and the attempt's number;
--       then one for each answer to what is retracted
-- ARGV  1 story  2 agent  3 entry  4 consumer  5 L  6 own lane (1 … L)  7 the moderator's lane (1 … L)
--       8 place in the log of what is answered, or 0: it cannot be taken back, or its place is not known
--       then lists, each after its length:
--       consumed   id                               parked events answered in the same beat, from the head
--       fields     name, value                      of the context
--       retracted  seq, tombstone JSON, list of (agent, id)    log events taken away, and the answers that they ask for
--       responses  id                               whose drafts are over, and what was paid for them
--       emitted    JSON, id, logged | held, list of (lane, part)
--       recorded   id of the entry's event, epoch, turns and ms to keep, bytes    at most one
--
-- Replies  {OK, seq …}  done; one seq for each logged event
--          {GONE}       the entry is nobody's: it was ended before. After a lost reply of the same call: done
--          {FENCED}     another consumer holds it now
--          {MOVED}      the consumed events are not at the head of the lane
-- Except after OK nothing is written, nor after an error. But a log that is ahead of the story's count refuses an event when
-- the context's fields, what was taken back and the ends of drafts are written; no entry has ended then.
--
-- What ends entries comes last, those that joined the beat too: follow-ups go to the end of the own lane, so that its head
-- stays what was looked at, and they stand behind what waited there. Only the holder of the lease writes, so a worker that was
-- suspended or cut off changes nothing. The id of an event that is logged is taken: nobody can publish another one under
-- it. In a story that was deleted in the meantime the entry ends and nothing is recorded.
-- Where what is answered was taken back in the meantime, the entry alone ends, with its drafts: the answer may quote it. It
-- is kept how the turn went.
-- The answers that a retracted event asks for are not shown any more from then on: their drafts end with it, and draft.lua
-- adds nothing to them. So whoever comes later, and is told of no end, sees nothing of them.

local ctx, log, live, drafts, gone, seen, rec = unpack(KEYS, 1, 7)
local story, agent, entry, consumer = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local place = ARGV[8]
local lanes = {}
for i = 1, tonumber(ARGV[5]) do
  lanes[i] = lane_at(5 + 3 * i)
end
local own, moderator = lanes[tonumber(ARGV[6])], lanes[tonumber(ARGV[7])]

local at = 8
local function take()
  at = at + 1
  return ARGV[at]
end
local function list(item)
  local items = {}
  for i = 1, tonumber(take()) do
    items[i] = item()
  end
  return items
end
local function pair()
  local first, second = take(), take()
  return { first, second }
end

local refused = refusal(own.work, entry, consumer)
if refused then
  return refused
end

local consumed = list(take)
if #consumed > 0 then
  local head = redis.call('LRANGE', own.parked, 0, #consumed - 1)
  for i, id in ipairs(consumed) do
    if not head[i] or unpacked(head[i])[4] ~= id then
      return { 'MOVED' }
    end
  end
end
must_be_lane(own)

local function finish_all()
  if #consumed > 0 then
    redis.call('LPOP', own.parked, #consumed)
  end
  finish(own.work, entry)
  advance(own, entry)
end

-- Whatever its author is at now.
local function void(author, id, base)
  local attempt = redis.call('HGET', drafts, 'n:' .. id)
  if attempt then
    redis.call('HDEL', drafts, 'n:' .. id)
    redis.call('DEL', base .. attempt)
    if redis.call('HGET', drafts, author) == id .. ':' .. attempt then
      redis.call('HDEL', drafts, author)
    end
  end
end

if redis.call('EXISTS', ctx) == 0 then
  finish_all()
  return { 'OK' }
end

local fields = list(pair)
local retracted = list(function()
  local seq, tombstone, answers = take(), take(), list(pair)
  return { seq = seq, tombstone = tombstone, answers = answers }
end)
local responses = list(take)
local emitted = list(function()
  local json, id, held = take(), take(), take() == 'held'
  local steps = list(function()
    local lane, part = lanes[tonumber(take())], take()
    return { lane = lane, part = part }
  end)
  return { json = json, id = id, held = held, steps = steps }
end)

must_be('hash', ctx, drafts)
if #retracted > 0 or place ~= '0' then
  must_be('hash', gone)
end
if place ~= '0' and redis.call('HEXISTS', gone, place) == 1 then
  fields, retracted, emitted, consumed = {}, {}, {}, {}
end
for _, event in ipairs(emitted) do
  if event.held then
    must_be_lane(moderator)
  else
    must_be('stream', log)
    must_be('zset', seen)
  end
  for _, step in ipairs(event.steps) do
    must_be_lane(step.lane)
  end
end

for _, field in ipairs(fields) do
  redis.call('HSET', ctx, field[1], field[2])
end
local base = 7 + 3 * #lanes + #responses
for _, taken in ipairs(retracted) do
  if redis.call('XDEL', log, taken.seq .. '-0') == 1 then
    redis.call('HSET', gone, taken.seq, taken.tombstone)
    for i, answer in ipairs(taken.answers) do
      void(answer[1], answer[2], KEYS[base + i])
    end
  end
  base = base + #taken.answers
end
-- Most answers leave no draft, and most of the others one: looked for together.
local over, bases = { agent }, {}
for i, id in ipairs(responses) do
  over[i + 1], bases[i + 1] = 'n:' .. id, KEYS[7 + 3 * #lanes + i]
end
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
for _, event in ipairs(emitted) do
  if event.held then
    admit(moderator, entry_of(story, event.id, '0', event.json, true))
  else
    reply[#reply + 1] = record(ctx, log, live, event.json)
    redis.call('ZADD', seen, 'NX', now_ms(), event.id)
  end
  for _, step in ipairs(event.steps) do
    admit(step.lane, entry_of(story, event.id, step.part, event.json, false))
  end
end
list(function()
  local id, epoch, turns, ms, bytes = take(), take(), take(), take(), take()
  remember(rec, ctx, reply[2], agent, id, epoch, turns, ms, bytes)
end)
-- Behind what a full server refuses: it refuses nothing of a script that has written something.
for i = 2, #responses + 1 do
  redis.call('DEL', bases[i] .. 'paid')
end
finish_all()
return reply
