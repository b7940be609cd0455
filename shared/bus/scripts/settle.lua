-- Ends what a call holds, or its wait: what it used stays taken out of the limits, the rest comes back.
--
-- KEYS  1 holds  2 held  3 busy  4 … 6 spent:0 … spent:2  7 bucket:<model>  8 queue:<model>  9 waiters:<model>
-- ARGV  1 call, as <turn>:<number>  2 attempt  3 tokens used  4 cost used, millionths: -1 = nobody knows, so all that was held
--       5 tokens a minute; 0 = no limit  6 how long nobody may call the model, ms
-- Reply 1 = it held something, 0 = no more: it took too long, or this was said before

local holds, held, busy, days = KEYS[1], KEYS[2], KEYS[3], { KEYS[4], KEYS[5], KEYS[6] }
local bucket, call, limit, pause = KEYS[7], ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[6])

if pause > 0 then
  local known = tonumber(redis.call('HGET', bucket, 'until') or 0)
  local wanted = math.max(known, now + pause)
  redis.call('HSET', bucket, 'until', whole(math.min(wanted, now + LONGEST_PAUSE)))
  redis.call('PEXPIRE', bucket, 60 * 60 * 1000)
end
-- It may have been waiting still, if no other attempt waits in its place.
local _, _, waits = waiter(redis.call('HGET', KEYS[9], call))
if waits == ARGV[2] then
  redis.call('ZREM', KEYS[8], call)
  redis.call('HDEL', KEYS[9], call)
end
local mine = hold(held, call)
if not mine or mine.t ~= ARGV[2] then
  return 0
end
local function told(used)
  return used >= 0 and used or nil
end
local tokens, cost = told(tonumber(ARGV[3])), told(tonumber(ARGV[4]))
let_go(holds, held, busy, days, call, tokens, cost)
if limit > 0 then
  local back = mine.n - (tokens or mine.n)
  local kept = tonumber(redis.call('HGET', bucket, 'tokens') or '')
  if back < 0 then
    -- Whatever the provider says: nobody waits for much longer than a minute.
    fill(bucket, 'tokens', math.max(level(bucket, 'tokens', limit, burst(limit)) + back, -limit))
  elseif kept then
    -- Its time stays: who waits for more than a bucket holds goes on with what was gained since.
    redis.call('HSET', bucket, 'tokens', string.format('%.3f', math.min(kept + back, burst(limit))))
  end
  redis.call('PEXPIRE', bucket, 60 * 60 * 1000)
end
return 1
