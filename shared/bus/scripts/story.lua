-- Creates a story, or changes what is known of one.
--
-- KEYS  1 ctx:<story>  2 chars:<story>  3 lore:<story>  4 stories
--       5 … what a former story of this name may have left: removed at creation
-- ARGV  1 create | patch  2 story  3 the most bytes of names and values that may be known of it
--       4 a mark of this creation: whoever repeats it with the same one is told so; empty to patch
--       then three times (ctx, chars, lore): the length of a list and its names and values, then the length of a
--       list and its names, which are removed
--
-- Replies  {OK, when it was created: ms since 1970} to create  {OK} to patch
--          {AGAIN, when it was created} to create, where the mark was there  {EXISTS} to create  {NOSTORY} to patch
--          {LARGE, the bytes that there would be}. These write nothing
--
-- A new story gets seq 0 and the time of creation by Redis's clock.

local create, story, most = ARGV[1] == 'create', ARGV[2], tonumber(ARGV[3])
local exists = redis.call('EXISTS', KEYS[1]) == 1
if create and exists then
  if redis.call('HGET', KEYS[1], 'mark') == ARGV[4] then
    return { 'AGAIN', redis.call('HGET', KEYS[1], 'created') }
  end
  return { 'EXISTS' }
end
if not create and not exists then
  return { 'NOSTORY' }
end

local at = 4
local function take()
  at = at + 1
  return ARGV[at]
end

-- What each hash gets, and how much all three would have in them.
local set, removed, bytes = {}, {}, 0
for hash = 1, 3 do
  set[hash], removed[hash] = {}, {}
  local sizes = {}
  local known = create and {} or redis.call('HGETALL', KEYS[hash])
  for i = 1, #known, 2 do
    sizes[known[i]] = #known[i] + #known[i + 1]
  end
  for _ = 1, tonumber(take()) do
    local name, value = take(), take()
    table.insert(set[hash], { name, value })
    sizes[name] = #name + #value
  end
  for _ = 1, tonumber(take()) do
    local name = take()
    table.insert(removed[hash], name)
    sizes[name] = nil
  end
  if hash == 1 then
    -- Not people's: a story at its limit can be renewed.
    sizes.renewed, sizes.fence = nil, nil
  end
  for _, size in pairs(sizes) do
    bytes = bytes + size
  end
end
if bytes > most then
  return { 'LARGE', bytes }
end

local created
if create then
  -- Whoever else uses the list's key is met here, with nothing written yet.
  redis.call('SISMEMBER', KEYS[4], story)
  local now = redis.call('TIME')
  created = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
  -- A full Redis refuses the first write alone, and only one that adds: so that comes first.
  redis.call('HSET', KEYS[1], 'seq', 0, 'created', created, 'mark', ARGV[4])
  redis.call('DEL', unpack(KEYS, 2, 3))
  redis.call('DEL', unpack(KEYS, 5))
  redis.call('SADD', KEYS[4], story)
end

for hash = 1, 3 do
  for _, field in ipairs(set[hash]) do
    redis.call('HSET', KEYS[hash], field[1], field[2])
  end
  for _, name in ipairs(removed[hash]) do
    redis.call('HDEL', KEYS[hash], name)
  end
end
return { 'OK', created }
