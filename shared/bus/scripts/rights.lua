-- Which of the commands that the fleet uses the user may not run on its keys and channels. One that is denied in the middle of a script
-- would leave half of it done, so that is asked before. Runs none of them.
--
-- KEYS  1 a key of the fleet's; also the name of a channel
-- ARGV  names of commands
-- Reply  those that are denied

local key = KEYS[1]
-- What comes behind the name, where that is not a key alone. Of several commands in one the name tells which: XINFO|GROUPS.
local words = {
  INFO = { 'everything' },
  SPUBLISH = { key, 'message' },
  TIME = {},
  ['XGROUP|CREATE'] = { key, 'g', '$' },
  ['XGROUP|DELCONSUMER'] = { key, 'g', 'c' },
  ['XINFO|CONSUMERS'] = { key, 'g' },
  XREADGROUP = { 'GROUP', 'g', 'c', 'STREAMS', key, '>' },
}

local denied = {}
for _, name in ipairs(ARGV) do
  local call = {}
  for word in string.gmatch(name, '[^|]+') do
    call[#call + 1] = word
  end
  for _, word in ipairs(words[name] or { key }) do
    call[#call + 1] = word
  end
  if not redis.acl_check_cmd(unpack(call)) then
    denied[#denied + 1] = name
  end
end
return denied
