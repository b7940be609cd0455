-- Which of the commands that the fleet uses the user may not run on its keys and channels. One that is denied in the middle of a script
-- would leave half of it done, so that is asked before. Runs none of them.
--
-- KEYS  1 a key of the fleet's; also the name of a channel
-- ARGV  names of commands
-- Reply  those that are denied

local key = KEYS[1]
-- Those whose first argument is no key, in each way that they are used.
local ways = {
  SPUBLISH = { { key, 'message' } },
  TIME = { {} },
  XGROUP = { { 'CREATE', key, 'g', '$' }, { 'DELCONSUMER', key, 'g', 'c' } },
  XINFO = { { 'GROUPS', key }, { 'CONSUMERS', key, 'g' } },
  XREADGROUP = { { 'GROUP', 'g', 'c', 'STREAMS', key, '>' } },
}

local denied = {}
for _, name in ipairs(ARGV) do
  for _, way in ipairs(ways[name] or { { key } }) do
    if not redis.acl_check_cmd(name, unpack(way)) then
      denied[#denied + 1] = name
      break
    end
  end
end
return denied
