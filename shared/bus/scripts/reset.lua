-- Begins a new attempt at a response: readers drop what they have of it.
--
-- KEYS  1 work stream of the agent   2 drafts of the story   3 draft list, without its attempt   4 live channel
--       5 gone of the story
-- ARGV  1 work entry  2 consumer  3 agent  4 response id  5 live message up to its attempt, the last field
--       6 place in the log of what is answered, or 0
-- Reply OK, attempt | STALE (the lease is another worker's, or over)
--
-- Invariants
-- - Fenced as draft.lua, and nothing is begun of what that would add nothing to. Attempts of a response only grow, and one
--   attempt has a list at a time. A repeated call only skips a number.
-- - It is not less than the time in seconds: a server that took over, and never heard of an attempt, gives a later number,
--   since a failover takes longer than its clock is behind. Where it does not, readers leave the new attempt's text aside
--   until the response itself; only in the very second of an attempt that was lost would two texts be joined.

local row = redis.call('XPENDING', KEYS[1], 'fleet', ARGV[1], ARGV[1], 1)[1]
if not row or row[2] ~= ARGV[2] then
  return {'STALE'}
end

local count = 'n:' .. ARGV[4]
local known = tonumber(redis.call('HGET', KEYS[2], count) or '0')
local attempt = math.max(known + 1, tonumber(redis.call('TIME')[1]))
if ARGV[6] ~= '0' and redis.call('HEXISTS', KEYS[5], ARGV[6]) == 1 then
  return {'OK', attempt}
end
redis.call('DEL', KEYS[3] .. known)
redis.call('HSET', KEYS[2], count, attempt, ARGV[3], ARGV[4] .. ':' .. attempt)
redis.pcall('SPUBLISH', KEYS[4], ARGV[5] .. attempt .. '}')
return {'OK', attempt}
