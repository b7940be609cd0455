-- Keeps an answer of a model until the turn that paid for it ends, for whoever has to begin that turn again.
--
-- KEYS  1 work:<agent>  2 draft:<response>:paid
-- ARGV  1 entry  2 consumer  3 how the turn was begun  4 answer  5 how long they are kept, ms
-- Reply {OK} | {STALE}: the lease is another worker's, or over
--
-- Invariants
-- - Who does not hold the entry's lease writes nothing, so nothing is left behind the end of a turn.
-- - The list begins with how the turn was begun; answers of one that was begun otherwise are of no use, and go.

local row = redis.call('XPENDING', KEYS[1], 'fleet', ARGV[1], ARGV[1], 1)[1]
if not row or row[2] ~= ARGV[2] then
  return { 'STALE' }
end
local begun = redis.call('LINDEX', KEYS[2], 0)
if begun == ARGV[3] then
  redis.call('RPUSH', KEYS[2], ARGV[4])
else
  if begun then
    redis.call('DEL', KEYS[2])
  end
  redis.call('RPUSH', KEYS[2], ARGV[3], ARGV[4])
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return { 'OK' }
