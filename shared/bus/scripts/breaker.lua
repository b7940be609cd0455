-- Keeps, for the whole installation, which models are not to be asked for now since they fail, and how many retries may be made.
--
-- KEYS  1 health
-- ARGV  1 calls that were begun since the last time  2 what is asked for: '' | retry | fallback  3 a letter for who tells
--       4 … fives: model, in the order in which they are asked, how its requests ended since the last time, oldest first
--       (. answered, x failed), for how long it says that it is not to be asked, ms (0 = it does not), whether it is to be tried while it is
--       open (0 | 1), whether another one is asked in its place (0 | 1)
-- Reply {whether what was asked for may be made, then threes: 0 = closed | 1 = open | 2 = open, and this asker may try it,
--       ms until it may be tried, ms since it opened}
--
-- In health
-- - m:<model>: its last 20 requests (. or x, and the letter of who made each), when it may be tried again, when it opened, how
--   often it was tried since in vain, until when somebody tries it
-- - s:<model>: when an open one was last asked about, to the minute; of one that nobody asks about, as with a key that was
--   renewed since, both go after five
-- - swept: when it was last looked for those
-- - r:<model>: how many retries may be made by those who ask it first, and when that was so
--
-- Invariants
-- - A model opens when it says so, when its last five requests failed, or half of the last 20; a tenth of them where another one
--   is asked in its place and no retry is left. It does not for failures of one worker that has had no answer while others have:
--   that is the worker's network. It closes when it answers once it may be tried, which one asker at a time does.
-- - A retry is taken from a tenth of all calls, up to 500, and from one each 10 s while there are less than 20. Asking another
--   model is taken from that too, and never refused.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local health, calls, wanted, letter, retries = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3], 'r:' .. ARGV[4]
local KEPT, IN_A_ROW = 20, 5
local FIRST, LONGEST, TRYING = 5000, 60000, 10000
local RESERVE, SAVED, DEBT = 20, 500, -100
local MINUTE = 60 * 1000

local left, since = string.match(redis.call('HGET', health, retries) or '', '^(%S+) (%S+)$')
left = tonumber(left or RESERVE)
local in_time = left + math.max(now - tonumber(since or now), 0) / 10000
left = math.min(math.max(left, math.min(in_time, RESERVE)) + calls / 10, SAVED)
local is_granted = wanted ~= 'retry' or left >= 1
if is_granted and wanted ~= '' then
  left = math.max(left - 1, DEBT)
end
-- Each worker looks each second: who has nothing to tell writes nothing, but of an open model that it is asked about.
local is_new = calls > 0 or wanted ~= ''
if is_new then
  redis.call('HSET', health, retries, string.format('%.3f %.0f', left, now))
end

local function fails(ends, has_next)
  local all, failed, in_a_row, failing, others = 0, 0, 0, {}, {}
  for ended, by in string.gmatch(ends, '(.)(.)') do
    all = all + 1
    if ended == 'x' then
      failed, in_a_row, failing[by] = failed + 1, in_a_row + 1, true
    else
      in_a_row, others[by] = 0, true
    end
  end
  local one = next(failing)
  if one and not next(failing, one) and not others[one] and next(others) then
    return false
  end
  local most = has_next and left < 1 and KEPT / 10 or KEPT / 2
  return in_a_row >= IN_A_ROW or all == KEPT and failed >= most
end

local function told(model, ended, shut, tries, has_next)
  local field = 'm:' .. model
  local kept = redis.call('HGET', health, field)
  local ends, again, opened, vain, trying = string.match(kept or '', '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  again, opened, vain, trying = tonumber(again or 0), tonumber(opened or 0), tonumber(vain or 0), tonumber(trying or 0)
  local answered, failed = string.find(ended, '.', 1, true), string.find(ended, 'x', 1, true)
  -- With nothing in front of it an empty one would be no word.
  ends = string.sub(ends or '-', 2) .. string.gsub(ended, '.', '%0' .. letter)
  ends = string.sub(ends, -2 * KEPT)
  -- After the clock went back nothing is open for longer than it could be from now.
  again, opened = math.min(again, now + LONGEST), math.min(opened, now)
  local state, wait = 0, 0
  if opened == 0 and (shut > 0 or fails(ends, has_next)) then
    opened, again, vain, trying = now, now + (shut > 0 and shut or FIRST), 0, 0
  elseif opened > 0 and now >= again and answered then
    ends, again, opened, vain, trying = '', 0, 0, 0, 0
  elseif opened > 0 and (shut > 0 or now >= again and failed) then
    vain = now >= again and vain + 1 or vain
    local pause = shut > 0 and shut or math.min(FIRST * 2 ^ math.min(vain, 10), LONGEST)
    again, trying = math.max(again, now + pause), 0
  end
  if opened > 0 then
    state, wait = 1, math.max(again, math.min(trying, now + TRYING)) - now
    if wait <= 0 and tries then
      state, wait, trying = 2, 0, now + TRYING
    end
  end
  if opened > 0 then
    local asked = tonumber(redis.call('HGET', health, 's:' .. model) or 0)
    if math.abs(now - asked) >= MINUTE then
      redis.call('HSET', health, 's:' .. model, string.format('%.0f', now))
      is_new = true
    end
  elseif kept then
    redis.call('HDEL', health, 's:' .. model)
  end
  local keeps = string.format('-%s %.0f %.0f %.0f %.0f', ends, again, opened, vain, trying)
  if keeps ~= (kept or '- 0 0 0 0') then
    redis.call('HSET', health, field, keeps)
    is_new = true
  end
  return state, math.max(wait, 0), opened > 0 and now - opened or 0
end

local reply = { is_granted and 1 or 0 }
for i = 4, #ARGV, 5 do
  local shut = math.min(tonumber(ARGV[i + 2]), LONGEST)
  local state, wait, open_for = told(ARGV[i], ARGV[i + 1], shut, ARGV[i + 3] == '1', ARGV[i + 4] == '1')
  reply[#reply + 1] = state
  reply[#reply + 1] = wait
  reply[#reply + 1] = open_for
end
if is_new then
  local swept = tonumber(redis.call('HGET', health, 'swept') or 0)
  if math.abs(now - swept) >= MINUTE then
    redis.call('HSET', health, 'swept', string.format('%.0f', now))
    local all = redis.call('HGETALL', health)
    for i = 1, #all, 2 do
      local model = string.match(all[i], '^s:(.+)$')
      if model and now - tonumber(all[i + 1]) > 5 * MINUTE then
        redis.call('HDEL', health, all[i], 'm:' .. model)
      end
    end
  end
  redis.call('PEXPIRE', health, 60 * MINUTE)
end
return reply
