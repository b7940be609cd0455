-- What is in the lanes of one shard, all at one moment. Writes nothing.
--
-- KEYS  1 the agents' work streams (A of them)
--       then for each story: for each agent turn and parked; then the story's drafts
-- ARGV  1 A
-- Reply {for each agent its entries {id, {name, value …}}}, {for each story {{turn or '', parked elements} …, drafts}}}

local agents = tonumber(ARGV[1])
local work, stories = {}, {}
for i = 1, agents do
  work[i] = redis.call('XRANGE', KEYS[i], '-', '+')
end
for first = agents + 1, #KEYS, 2 * agents + 1 do
  local story = {}
  for i = 1, agents do
    local turn = first + 2 * (i - 1)
    story[i] = { redis.call('GET', KEYS[turn]) or '', redis.call('LRANGE', KEYS[turn + 1], 0, -1) }
  end
  story[agents + 1] = redis.call('HGETALL', KEYS[first + 2 * agents])
  stories[#stories + 1] = story
end
return { work, stories }
