-- The lane, in one place. This text is put in front of every script that admits, ends or numbers an event:
-- a producer in another language sends lane.lua .. publish.lua.
--
-- A lane is the FIFO of one (agent, story): {work =, turn =, parked =} are its keys.
--   work    stream of the agent's admitted entries of the whole shard, with one consumer group
--   turn    the id of this story's entry in work; absent = the lane is empty
--   parked  list of the entries that wait behind it, oldest first
-- True after every script: at most one entry of a lane is in work, turn names it, and parked is empty without it.
--
-- An entry is a flat list of names and values: story, id, part, e (event JSON), and held = 1 when the event is not
-- in the log. A parked element holds the same list, each text as <bytes>:<text>, so that no text can be mistaken for
-- another.
--
-- A live message may be lost (a channel that the ACL denies, a subscriber that is away): readers repair holes from the
-- log. So its failure must not leave a half-done script.

local GROUP = 'fleet'

local function lane_at(first)
  return { work = KEYS[first], turn = KEYS[first + 1], parked = KEYS[first + 2] }
end

-- What another program wrote under a name of ours ends a script here, before its first write, and not in its middle.
local function must_be(kind, ...)
  for _, key in ipairs({ ... }) do
    local found = redis.call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
      error(redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind))
    end
  end
end

local function must_be_lane(lane)
  must_be('stream', lane.work)
  must_be('string', lane.turn)
  must_be('list', lane.parked)
end

local function entry_of(story, id, part, event, held)
  local fields = { 'story', story, 'id', id, 'part', part, 'e', event }
  if held then
    fields[9], fields[10] = 'held', '1'
  end
  return fields
end

local function pack(fields)
  local packed = {}
  for i, text in ipairs(fields) do
    packed[i] = #text .. ':' .. text
  end
  return table.concat(packed)
end

local function unpacked(packed)
  local fields, at = {}, 1
  while at <= #packed do
    local colon = string.find(packed, ':', at, true)
    local last = colon + tonumber(string.sub(packed, at, colon - 1))
    fields[#fields + 1] = string.sub(packed, colon + 1, last)
    at = last + 1
  end
  return fields
end

local function start(lane, fields)
  redis.call('SET', lane.turn, redis.call('XADD', lane.work, '*', unpack(fields)))
end

-- The next step of a lane: in flight when the lane is empty, else behind the others.
local function admit(lane, fields)
  if redis.call('EXISTS', lane.turn) == 0 then
    start(lane, fields)
  else
    redis.call('RPUSH', lane.parked, pack(fields))
  end
end

-- Ends an entry whose turn it is. An entry that was put into work by other means has no turn to give on.
local function advance(lane, entry)
  local turn = redis.call('GETDEL', lane.turn)
  if turn and turn ~= entry then
    redis.call('SET', lane.turn, turn)
    return
  end
  local waiting = redis.call('LPOP', lane.parked)
  if waiting then
    start(lane, unpacked(waiting))
  end
end

-- The fence: nil when the consumer holds the entry's lease, else GONE (nobody does) or FENCED (another does).
local function refusal(work, entry, consumer)
  local rows = redis.pcall('XPENDING', work, GROUP, entry, entry, 1)
  if rows.err and not string.find(rows.err, 'NOGROUP', 1, true) then
    return redis.error_reply(rows.err)
  end
  if not rows[1] then
    return { 'GONE' }
  end
  if rows[1][2] ~= consumer then
    return { 'FENCED' }
  end
end

-- Whether an entry of work was given to a consumer that was destroyed with all that it held: nobody has it, and nobody
-- will be given it.
local function stranded(work, entry)
  local rows = redis.pcall('XPENDING', work, GROUP, entry, entry, 1)
  if rows.err or rows[1] then
    return false
  end
  local function place(id)
    local ms, n = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms), tonumber(n)
  end
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', work)) do
    local group = {}
    for i = 1, #row, 2 do
      group[row[i]] = row[i + 1]
    end
    if group.name == GROUP then
      local ms, n = place(entry)
      local last_ms, last_n = place(group['last-delivered-id'])
      return ms < last_ms or (ms == last_ms and n <= last_n)
    end
  end
  return false
end

local function finish(work, entry)
  redis.call('XACK', work, GROUP, entry)
  redis.call('XDEL', work, entry)
end

-- The clock stands still while a script runs.
local clock
local function now_ms()
  if not clock then
    local now = redis.call('TIME')
    clock = now[1] * 1000 + math.floor(now[2] / 1000)
  end
  return clock
end

-- The next event of the log, with the time in ms; gives its seq. A log that is ahead of the count refuses: the script ends
-- here, and what it wrote before stands. So whatever ends an entry, or takes one out of its lane, comes after this.
local function record(ctx, log, live, event)
  local seq = redis.call('HINCRBY', ctx, 'seq', 1)
  redis.call('XADD', log, seq .. '-0', 'e', event, 't', string.format('%.0f', now_ms()))
  redis.pcall('SPUBLISH', live, '{"t":"event","seq":' .. seq .. ',"event":' .. event .. '}')
  return seq
end

