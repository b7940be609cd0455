-- Which of the commands that the fleet uses the user may not run. One that is denied in the middle of a script would
-- leave half of it done, so that is asked before. Everything is tried on a key of no type that the commands take, or changes
-- nothing; at the end the key is gone.
--
-- KEYS  1 a key for nothing else
-- ARGV  names of commands
-- Reply  those that are denied

local key = KEYS[1]
local arguments = {
  DEL = {},
  EXISTS = {},
  GET = {},
  GETDEL = {},
  HDEL = { 'f' },
  HGET = { 'f' },
  HGETALL = {},
  HINCRBY = { 'f', 1 },
  HMGET = { 'f' },
  HSET = { 'f', 'v' },
  LINDEX = { 0 },
  LLEN = {},
  LPOP = {},
  LRANGE = { 0, 0 },
  PEXPIRE = { 60000 },
  RPUSH = { 'v' },
  SET = { '' },
  XACK = { 'g', '0-1' },
  XADD = { '*', 'f', 'v' },
  XCLAIM = { 'g', 'c', 0, '0-1' },
  XDEL = { '0-1' },
  XLEN = {},
  XPENDING = { 'g' },
  XRANGE = { '0-1', '0-1' },
  XREVRANGE = { '0-1', '0-1' },
  ZADD = { 0, 'v' },
  ZREMRANGEBYSCORE = { 0, 0 },
  ZSCORE = { 'v' },
}

local function try(name)
  if name == 'TIME' then
    return redis.pcall(name)
  elseif name == 'XINFO' then
    return redis.pcall(name, 'GROUPS', key)
  elseif name == 'XGROUP' then
    return redis.pcall(name, 'CREATE', key, 'g', '$')
  elseif name == 'XREADGROUP' then
    return redis.pcall(name, 'GROUP', 'g', 'c', 'STREAMS', key, '>')
  end
  return redis.pcall(name, key, unpack(arguments[name]))
end

-- Redis 7.0 and later say it in these ways, and Redis has no code for it in 7.0.
local function is_denied(reply)
  local why = type(reply) == 'table' and reply.err or ''
  for _, words in ipairs({ "can't run this command", "can't access", 'NOPERM', 'ACL failure' }) do
    if string.find(why, words, 1, true) then
      return true
    end
  end
  return false
end

local denied = {}
for _, name in ipairs(ARGV) do
  -- What came before may have taken it.
  redis.pcall('SET', key, '')
  if is_denied(try(name)) then
    denied[#denied + 1] = name
  end
end
redis.pcall('DEL', key)
return denied
