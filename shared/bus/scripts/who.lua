-- Who is in a story, at each node that counts by Redis's clock. Writes nothing.
--
-- KEYS  1 here:<story>  2 here-until:<story>
-- Reply what here.lua stored for each of them

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local nodes = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
if #nodes == 0 then
  return {}
end
return redis.call('HMGET', KEYS[1], unpack(nodes))
