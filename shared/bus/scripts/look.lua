-- What waits for an agent in one shard, for people who look at the whole fleet. Writes nothing.
--
-- KEYS  1 work:<agent>  2 dead:<agent>
-- ARGV  1 how many of the first entries of work are looked at
-- Reply  of each of the two streams {its entries, how many it ever had}; the time, ms; the id of the oldest entry of work,
--        or nothing; how many were looked at; the story of each that names one
--
-- An entry may have 64 KiB and more: none leaves Redis.

local function counts(stream)
  if redis.call('EXISTS', stream) == 0 then
    return { 0, 0 }
  end
  local added, info = 0, redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then
      added = info[i + 1]
    end
  end
  return { redis.call('XLEN', stream), added }
end

local work, dead = counts(KEYS[1]), counts(KEYS[2])
local entries, stories = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1]), {}
for _, entry in ipairs(entries) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'story' then
      stories[#stories + 1] = fields[i + 1]
      break
    end
  end
end
local now, oldest = redis.call('TIME'), entries[1] and entries[1][1] or ''
return { work, dead, now[1] * 1000 + math.floor(now[2] / 1000), oldest, #entries, stories }
