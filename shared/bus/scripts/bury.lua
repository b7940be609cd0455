-- Gives an entry up: whole into the dead letters, with a word for the story's readers. Run with lane.lua and
-- recording.lua in front.
--
-- KEYS  1 work:<agent>  2 dead:<agent>
--       and, unless the entry names no lane:  3 turn  4 parked  5 ctx:<story>  6 log:<story>  7 live:<story>
--       8 drafts:<story>  9 rec:<story>  10 gone:<story>
--       11 draft:<response>: of the response that it had, if it can be told
-- ARGV  1 entry  2 consumer  3 agent  4 reason  5 class  6 tries  7 JSON of the `failed` event, or nothing
--       8 id of the response, or nothing  9 as commit.lua's 8  and, where it is kept how the turn went:
--       10 id of the event  11 epoch of the log  12 turns and 13 ms to keep  14 bytes
--
-- Replies  {OK, seq …}  done; the seq of the `failed` event when it was logged
--          {GONE} {FENCED}  as in commit.lua: nothing written, nor after an error
--
-- The dead letter has the entry's fields, then reason, class, tries, at (ms), consumer. The lane goes on. The text of
-- the draft goes; the number of its attempts stays, so that one of a redrive is no earlier one's.
-- Of an entry that somebody gave more fields than a script can pass on, the first ones are kept; left_out tells how
-- many are not.
-- Where what was to be answered was taken back in the meantime, there is no letter, since that has its words, and no word for
-- readers: the entry ends with its draft.

local MAX_TEXTS = 2000

local work, dead = KEYS[1], KEYS[2]
local entry, consumer, agent, failed = ARGV[1], ARGV[2], ARGV[3], ARGV[7]

local refused = refusal(work, entry, consumer)
if refused then
  return refused
end

must_be('stream', dead)
local lane = #KEYS > 2 and { work = work, turn = KEYS[3], parked = KEYS[4] }
if lane then
  must_be_lane(lane)
  must_be('hash', KEYS[8])
end
local taken_back = false
if lane and ARGV[9] ~= '0' then
  must_be('hash', KEYS[10])
  taken_back = redis.call('HEXISTS', KEYS[10], ARGV[9]) == 1
end

local reply = { 'OK' }
if failed ~= '' and lane and not taken_back and redis.call('EXISTS', KEYS[5]) == 1 then
  must_be('stream', KEYS[6])
  -- First: what a log refuses that is ahead of its count is not lost with its entry.
  reply[2] = record(KEYS[5], KEYS[6], KEYS[7], failed)
end

if not taken_back then
  local found = redis.call('XRANGE', work, entry, entry)[1]
  local fields, letter = found and found[2] or {}, {}
  for i = 1, math.min(#fields, MAX_TEXTS) do
    letter[i] = fields[i]
  end
  if #fields > MAX_TEXTS then
    letter[#letter + 1], letter[#letter + 2] = 'left_out', (#fields - MAX_TEXTS) / 2
  end
  for _, text in ipairs({
    'reason', ARGV[4], 'class', ARGV[5], 'tries', ARGV[6],
    'at', string.format('%.0f', now_ms()), 'consumer', consumer,
  }) do
    letter[#letter + 1] = text
  end
  redis.call('XADD', dead, '*', unpack(letter))
end
finish(work, entry)

if lane then
  redis.call('HDEL', KEYS[8], agent)
  if KEYS[11] then
    redis.call('DEL', KEYS[11] .. 'paid')
  end
  local attempt = KEYS[11] and redis.call('HGET', KEYS[8], 'n:' .. ARGV[8])
  if attempt then
    redis.call('DEL', KEYS[11] .. attempt)
  end
  if ARGV[10] and (reply[2] or taken_back) then
    remember(KEYS[9], KEYS[5], reply[2], agent, unpack(ARGV, 10, 14))
  end
  advance(lane, entry)
end
return reply
