-- Creates a story, or changes what is known of one.
--
-- KEYS  1 ctx:<story>  2 chars:<story>  3 lore:<story>  4 stories
--       5 … what a former story of this name may have left: removed at creation
-- ARGV  1 create | patch  2 story
--       then three times (ctx, chars, lore): the length of a list and its names and values, then the length of a
--       list and its names, which are removed
--
-- Replies  {OK}  {EXISTS} to create  {NOSTORY} to patch: nothing written
--
-- A new story gets seq 0 and the time of creation by Redis's clock.

local create, story = ARGV[1] == 'create', ARGV[2]
local exists = redis.call('EXISTS', KEYS[1]) == 1
if create and exists then
  return { 'EXISTS' }
end
if not create and not exists then
  return { 'NOSTORY' }
end

if create then
  -- Whoever else uses the list's key is met here, with nothing written yet.
  redis.call('SISMEMBER', KEYS[4], story)
  redis.call('DEL', unpack(KEYS, 2, 3))
  redis.call('DEL', unpack(KEYS, 5))
  local now = redis.call('TIME')
  local created = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
  redis.call('HSET', KEYS[1], 'seq', 0, 'created', created)
  redis.call('SADD', KEYS[4], story)
end

local at = 2
local function take()
  at = at + 1
  return ARGV[at]
end
for hash = 1, 3 do
  for _ = 1, tonumber(take()) do
    local name, value = take(), take()
    redis.call('HSET', KEYS[hash], name, value)
  end
  for _ = 1, tonumber(take()) do
    redis.call('HDEL', KEYS[hash], take())
  end
end
return { 'OK' }
