-- Makes a story of a log that was put together beside: readers see all of it, or nothing yet.
--
-- KEYS  1 ctx:<story>  2 chars:<story>  3 lore:<story>  4 stories
--       then those that take the place of others, in pairs: staged, its place
--       … what a former story of this name may have left: removed. The last is redriven:<story>
-- ARGV  1 story  2 seq: the log's last place  3 the number of pairs
--       4 ms after which the last pair's is forgotten  5 a mark of this adoption: whoever repeats it is told OK
--       then for each pair how many entries were staged
--       then four times (ctx, chars, lore, redriven): the length of a list, and its names and values
--
-- Replies  {OK}  {EXISTS}  {LOST, key}: what was staged is not all there any more: nothing written
--
-- What is staged expires by itself, so that one that was never adopted leaves nothing.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return { redis.call('HGET', KEYS[1], 'mark') == ARGV[5] and 'OK' or 'EXISTS' }
end
local story, seq, pairs_of, ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

for pair = 1, pairs_of do
  local staged = KEYS[3 + 2 * pair]
  local kind = redis.call('TYPE', staged).ok
  local entries = 0
  if kind == 'zset' then
    entries = redis.call('ZCARD', staged)
  elseif kind ~= 'none' then
    entries = redis.call('XLEN', staged)
  end
  if entries ~= tonumber(ARGV[5 + pair]) then
    return { 'LOST', staged }
  end
end

redis.call('SISMEMBER', KEYS[4], story)
redis.call('DEL', unpack(KEYS, 2, 3))
for key = 5 + 2 * pairs_of, #KEYS do
  redis.call('DEL', KEYS[key])
end
for pair = 1, pairs_of do
  local staged, place = KEYS[3 + 2 * pair], KEYS[4 + 2 * pair]
  redis.call('DEL', place)
  if redis.call('EXISTS', staged) == 1 then
    redis.call('RENAME', staged, place)
    if pair == pairs_of then
      redis.call('PEXPIRE', place, ms)
    else
      redis.call('PERSIST', place)
    end
  end
end

local at = 5 + pairs_of
local function take()
  at = at + 1
  return ARGV[at]
end
for _, hash in ipairs({ KEYS[1], KEYS[2], KEYS[3], KEYS[#KEYS] }) do
  for _ = 1, tonumber(take()) do
    local name, value = take(), take()
    redis.call('HSET', hash, name, value)
  end
end
local now = redis.call('TIME')
local created = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HSET', KEYS[1], 'seq', seq, 'created', created, 'mark', ARGV[5])
redis.call('SADD', KEYS[4], story)
return { 'OK' }
