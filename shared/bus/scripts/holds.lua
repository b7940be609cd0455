-- In front of the scripts of admission: how what a call holds is let go.
--
-- Shared keys
-- - holds: the calls that hold something, by the time in ms of Redis's clock up to which they may
-- - held: what each of them holds, as JSON: t (attempt), m(odel), n (tokens), c(ost in millionths), d(ay), b(udgets), l(ife in ms);
--   and as of:<turn> the numbers of its calls that do. A call is <turn>:<number>
-- - busy: how many calls each model has under way
-- - spent:<day % 3>: what was spent or is held of each budget on a day since 1970, UTC; gone before its name comes again
--
-- Invariant: a budget's field of the day is what its calls have used, and what those may have used of which nobody told:
-- they are in `held`, or were given up while they were.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local DAY = 24 * 60 * 60 * 1000
local today = math.floor(now / DAY)
-- Nobody keeps all from a model for longer, whatever a provider asks for.
local LONGEST_PAUSE = 10 * 60 * 1000

local function whole(number)
  return string.format('%.0f', number)
end

local function hold(held, call)
  local kept = redis.call('HGET', held, call)
  return kept and cjson.decode(kept)
end

local function turn_of(call)
  return string.match(call, '^(.*):%d+$')
end

-- The calls of a turn that hold something.
local function calls_of(held, turn)
  local calls = {}
  for number in string.gmatch(redis.call('HGET', held, 'of:' .. turn) or '', '%d+') do
    calls[#calls + 1] = turn .. ':' .. number
  end
  return calls
end

local function set_calls(held, turn, calls)
  local numbers = {}
  for i, call in ipairs(calls) do
    numbers[i] = string.match(call, '%d+$')
  end
  if #numbers > 0 then
    redis.call('HSET', held, 'of:' .. turn, table.concat(numbers, ' '))
  else
    redis.call('HDEL', held, 'of:' .. turn)
  end
end

-- Of what a call holds, if it holds something, `tokens` and `cost` were used. nil: nobody knows, so all of it was.
local function let_go(holds, held, busy, days, call, tokens, cost)
  local hold = hold(held, call)
  redis.call('ZREM', holds, call)
  local turn, others = turn_of(call), {}
  for _, other in ipairs(calls_of(held, turn)) do
    if other ~= call then
      others[#others + 1] = other
    end
  end
  set_calls(held, turn, others)
  if not hold then
    return
  end
  redis.call('HDEL', held, call)
  if redis.call('HINCRBY', busy, hold.m, -1) <= 0 then
    redis.call('HDEL', busy, hold.m)
  end
  local more = { t = (tokens or hold.n) - hold.n, c = (cost or hold.c) - hold.c }
  for _, budget in ipairs(hold.b or {}) do
    -- None: the day is over, and forgotten.
    if redis.call('HEXISTS', days[hold.d % 3 + 1], budget) == 1 then
      redis.call('HINCRBY', days[hold.d % 3 + 1], budget, whole(more[string.sub(budget, 1, 1)]))
    end
  end
end

-- Of who waits: the tokens it wants, until when it is known, its attempt.
local function waiter(kept)
  return string.match(kept or '', '^(%d+) (%d+) (.+)$')
end

-- A bucket holds the sixth of a minute's limit, at least 1, and gains the other five in a minute: so no minute, wherever it
-- begins, has more than the limit.
local function burst(limit)
  return math.max(limit / 6, 1)
end

-- How long it takes to gain so many, in ms.
local function gaining(tokens, limit)
  return tokens * 72000 / limit
end

-- What is in it, as if it held `most`.
local function level(bucket, name, limit, most)
  local kept = redis.call('HMGET', bucket, name, name .. '_at')
  if not kept[1] then
    return most
  end
  local gained = (now - tonumber(kept[2])) * limit / 72000
  if gained < 0 then
    -- The clock went back, as after a failover: it gains from now on.
    redis.call('HSET', bucket, name .. '_at', whole(now))
    gained = 0
  end
  return math.min(tonumber(kept[1]) + gained, most)
end

local function fill(bucket, name, left)
  redis.call('HSET', bucket, name, string.format('%.3f', left), name .. '_at', whole(now))
end
