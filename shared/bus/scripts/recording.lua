-- How a turn went, kept for its replay. This text is put in front of the scripts that end one.
--
-- The entries of rec:<story> have: agent, id (of the event that was answered), seq (the log's end with the answer), z
-- (what the worker wrote; no script looks into it). No reader is ever given them.
--
-- It must not leave a half-done script, so its failure is borne: the doctor finds a key of a wrong type, and a worker
-- asks for its rights before.

-- At most `turns` of the last `ms` are kept.
local function remember(rec, agent, id, seq, turns, ms, bytes)
  local oldest = string.format('%.0f', math.max(0, now_ms() - ms))
  redis.pcall('XADD', rec, 'MINID', '~', oldest, '*', 'agent', agent, 'id', id, 'seq', seq, 'z', bytes)
  redis.pcall('XTRIM', rec, 'MAXLEN', '~', turns)
  -- Of a story where nothing happens any more.
  redis.pcall('PEXPIRE', rec, ms)
end

