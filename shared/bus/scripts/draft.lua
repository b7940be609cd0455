-- Adds a chunk to the text of a response that is being generated, and shows it to readers.
--
-- KEYS  1 work stream of the agent   2 drafts of the story   3 draft list, without its attempt   4 live channel
--       5 gone of the story
-- ARGV  1 work entry  2 consumer  3 agent  4 response id  5 attempt  6 i  7 n  8 text  9 live message  10 life of the text, ms
--       11 place in the log of what is answered, or 0
--       (chunks i … i+n-1 of the attempt)
-- Reply OK | STALE (the lease is another worker's, or over, or a later attempt has begun)
--
-- Invariants
-- - Who does not hold the entry's lease writes nothing, so a worker that was thought dead never speaks to readers, and
--   no draft is left behind a commit.
-- - A draft list holds the chunks of one attempt from 0 without a hole, each once: a repeated call adds nothing. A chunk
--   after a hole (the server lost the beginning) is left out: readers have the whole text with the event.
-- - The text expires, the number of the attempt does not: an answer that comes much later (a redrive, a fleet that was
--   away) is never taken for the rest of this one. A commit ends both.
-- - Of an answer to what was taken back nothing is added: the commit publishes nothing of it, and its draft ended with that.
-- - A message that cannot be sent is a hole, which readers wait out: it does not undo the chunk.
-- - Elements are "<i> <n> <text>".

local row = redis.call('XPENDING', KEYS[1], 'fleet', ARGV[1], ARGV[1], 1)[1]
if not row or row[2] ~= ARGV[2] then
  return {'STALE'}
end

if ARGV[11] ~= '0' and redis.call('HEXISTS', KEYS[5], ARGV[11]) == 1 then
  return {'OK'}
end

local attempt, i, n = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local count = 'n:' .. ARGV[4]
local known = tonumber(redis.call('HGET', KEYS[2], count) or '0')
if known > attempt then
  return {'STALE'}
end
if known > 0 and known < attempt then
  redis.call('DEL', KEYS[3] .. known)
end

local list = KEYS[3] .. attempt
local last = redis.call('LINDEX', list, -1)
local next = 0
if last then
  local first, chunks = string.match(last, '^(%d+) (%d+) ')
  next = tonumber(first) + tonumber(chunks)
end
if i ~= next then
  return {'OK'}
end
redis.call('RPUSH', list, i .. ' ' .. n .. ' ' .. ARGV[8])
redis.call('PEXPIRE', list, ARGV[10])
redis.call('HSET', KEYS[2], count, attempt, ARGV[3], ARGV[4] .. ':' .. attempt)
redis.pcall('SPUBLISH', KEYS[4], ARGV[9])
return {'OK'}
