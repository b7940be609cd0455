-- Lets a call to a model go ahead, has it wait, or refuses it. What it may use is taken out of all limits at once, or of none.
--
-- KEYS  1 holds  2 held  3 busy  4 … 6 spent:0 … spent:2  7 bucket:<model>  8 queue:<model>  9 waiters:<model>
--       10 flows:<model>
-- ARGV  1 call, as <turn>:<number>  2 attempt  3 model  4 story  5 most tokens  6 most cost, millionths  7 how long it may take, ms
--       8 requests a minute  9 tokens a minute  10 calls at once: 0 = no limit  11 … pairs: budget, its limit a day
-- Reply {OK} | {AGAIN} = it was told so before | {STALE} = a later attempt holds something, or waits | {WAIT ms place}
--       | {OVER place-of-the-pair ms-until-the-day-ends}
--
-- Invariants
-- - A call holds once, however often it is asked for: the same attempt is told AGAIN, and has its time from then on. A later
--   attempt takes the place of all that the turn's calls hold: whoever made them is dead, or has lost the turn, and is told so if
--   it asks again while the later one holds something, or waits for the same call.
-- - What is taken from a bucket or a budget comes back only with the call's end: who dies, or whose place is taken, has
--   spent it, since the provider may have. What comes back of them is their part of the calls at once.
-- - Who waits is told when to ask again, and is forgotten 2 s after. They go in the order of `queue`: by how much their
--   story was let to have when they came, or by the queue's own time where that is further (start-time fair queueing).
-- - Nobody who waits is overtaken: whoever goes leaves enough for all ahead.

local holds, held, busy, days = KEYS[1], KEYS[2], KEYS[3], { KEYS[4], KEYS[5], KEYS[6] }
local bucket, queue, waiters, flows = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local call, attempt, model, story = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local tokens, cost, life = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local per_minute = { requests = tonumber(ARGV[8]), tokens = tonumber(ARGV[9]) }
local at_once = tonumber(ARGV[10])
-- Waiters that are looked at one by one; the others are taken to be like them.
local LOOKED_AT = 32
local HOUR = 60 * 60 * 1000

local mine = hold(held, call)
if mine and mine.t == attempt then
  redis.call('ZADD', holds, 'XX', whole(now + life), call)
  return { 'AGAIN' }
end
for _, over in ipairs(redis.call('ZRANGEBYSCORE', holds, '-inf', whole(now), 'LIMIT', 0, 32)) do
  let_go(holds, held, busy, days, over)
end
-- After the clock went back: none is held for longer than its life from now.
for _, late in ipairs(redis.call('ZRANGEBYSCORE', holds, '(' .. whole(now + life), '+inf', 'LIMIT', 0, 32)) do
  local kept = hold(held, late)
  if kept then
    redis.call('ZADD', holds, 'LT', whole(now + kept.l), late)
  end
end
-- An attempt is <entry>-<how often that was delivered>-<anything>: an event that is sent again after it failed has another entry.
local function order(of)
  local ms, number, times = string.match(of, '^(%d+)%-(%d+)%-(%d+)%-')
  return { tonumber(ms or 0), tonumber(number or 0), tonumber(times or 0) }
end
local function is_later(one, other)
  one, other = order(one), order(other)
  for i = 1, 3 do
    if one[i] ~= other[i] then
      return one[i] > other[i]
    end
  end
  return false
end
local _, _, waits = waiter(redis.call('HGET', waiters, call))
if waits and is_later(waits, attempt) then
  return { 'STALE' }
end
for _, other in ipairs(calls_of(held, turn_of(call))) do
  local kept = hold(held, other)
  if kept and is_later(kept.t, attempt) then
    return { 'STALE' }
  end
end
-- Of a version that did not keep a turn's calls.
if mine then
  let_go(holds, held, busy, days, call)
end
for _, other in ipairs(calls_of(held, turn_of(call))) do
  local kept = hold(held, other)
  if not kept or kept.t ~= attempt then
    let_go(holds, held, busy, days, other)
  end
end

local function leave()
  redis.call('ZREM', queue, call)
  redis.call('HDEL', waiters, call)
end

local spent, budgets = days[today % 3 + 1], {}
for i = 11, #ARGV, 2 do
  local budget = ARGV[i]
  local more = string.sub(budget, 1, 1) == 't' and tokens or cost
  if tonumber(redis.call('HGET', spent, budget) or 0) + more > tonumber(ARGV[i + 1]) then
    leave()
    return { 'OVER', (i - 11) / 2, (today + 1) * DAY - now }
  end
  budgets[#budgets + 1] = budget
end

-- Its place: kept while it waits, else behind all who came with no more.
local virtual = tonumber(redis.call('HGET', bucket, 'virtual') or 0)
local start = tonumber(redis.call('ZSCORE', queue, call))
local place
if start then
  place = redis.call('ZRANK', queue, call)
else
  start = math.max(virtual, tonumber(redis.call('ZSCORE', flows, story) or 0))
  redis.call('ZADD', flows, start + math.max(tokens, 1), story)
  place = redis.call('ZCOUNT', queue, '-inf', string.format('%.17g', start))
end

-- Who is ahead, without those who did not ask again.
local ahead, seen = 0, 0
if place > 0 then
  local first = redis.call('ZRANGE', queue, 0, math.min(place, LOOKED_AT) - 1)
  for i, waiting in ipairs(redis.call('HMGET', waiters, unpack(first))) do
    local wants, until_then = waiter(waiting)
    -- Later than anybody is told to ask: the clock went back.
    if not wants or tonumber(until_then) < now or tonumber(until_then) > now + 4000 then
      redis.call('ZREM', queue, first[i])
      redis.call('HDEL', waiters, first[i])
      place = place - 1
    else
      ahead, seen = ahead + tonumber(wants), seen + 1
    end
  end
  if place > seen then
    ahead = ahead / math.max(seen, 1) * place
  end
end

-- How long until there is enough for it, and for all ahead.
local wait = math.max(tonumber(redis.call('HGET', bucket, 'until') or 0) - now, 0)
if wait > LONGEST_PAUSE then
  redis.call('HSET', bucket, 'until', whole(now + LONGEST_PAUSE))
end
local levels = {}
for name, needs in pairs({ requests = place + 1, tokens = ahead + tokens }) do
  local limit = per_minute[name]
  if limit > 0 then
    -- Who is first and wants more than a bucket holds waits until as much was gained, and leaves it as far behind.
    local most = place == 0 and math.max(needs, burst(limit)) or burst(limit)
    local there = level(bucket, name, limit, most)
    levels[name] = math.min(there, burst(limit))
    wait = math.max(wait, gaining(needs - there, limit))
  end
end
if at_once > 0 and tonumber(redis.call('HGET', busy, model) or 0) + place >= at_once then
  wait = math.max(wait, 50 + 50 * place / at_once)
end

local function keep()
  for _, key in ipairs({ bucket, queue, waiters, flows }) do
    redis.call('PEXPIRE', key, HOUR)
  end
end

if wait > 0 then
  wait = math.ceil(math.min(math.max(wait, 10), 2000))
  redis.call('ZADD', queue, string.format('%.17g', start), call)
  redis.call('HSET', waiters, call, table.concat({ whole(tokens), whole(now + wait + 2000), attempt }, ' '))
  keep()
  return { 'WAIT', wait, place }
end

leave()
for name, left in pairs(levels) do
  fill(bucket, name, left - (name == 'tokens' and tokens or 1))
end
-- Who comes now begins here. With each call that goes, that moves on by the part of it that each of the stories would have
-- had; else those that come could go before one that waits for ever.
virtual = math.max(virtual, start)
redis.call('ZREMRANGEBYSCORE', flows, '-inf', string.format('%.17g', virtual))
virtual = virtual + math.max(tokens, 1) / math.max(redis.call('ZCOUNT', flows, '-inf', '+inf'), 1)
redis.call('HSET', bucket, 'virtual', string.format('%.17g', virtual))
keep()
redis.call('HINCRBY', busy, model, 1)
redis.call('ZADD', holds, whole(now + life), call)
for _, budget in ipairs(budgets) do
  redis.call('HINCRBY', spent, budget, whole(string.sub(budget, 1, 1) == 't' and tokens or cost))
end
redis.call('PEXPIREAT', spent, whole((today + 2) * DAY))
-- An empty table would be an object.
local named = #budgets > 0 and budgets or nil
redis.call('HSET', held, call, cjson.encode({ t = attempt, m = model, n = tokens, c = cost, d = today, b = named, l = life }))
local calls = calls_of(held, turn_of(call))
calls[#calls + 1] = call
set_calls(held, turn_of(call), calls)
return { 'OK' }
