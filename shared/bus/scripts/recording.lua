-- How a turn went, kept for its replay. This text is put in front of the scripts that end one.
--
-- The entries of rec:<story> have: agent, id (of the event that was answered), seq (the place of the answer, or the log's
-- end where it is not there), epoch (of that log), z (what the worker wrote; no script looks into it). No reader is ever
-- given them.
--
-- It must not leave a half-done script, so its failure is borne: the doctor finds a key of a wrong type, and a worker
-- asks for its rights before.

-- At most `turns` of the last `ms` are kept.
local function remember(rec, ctx, seq, agent, id, epoch, turns, ms, bytes)
  seq = seq or redis.call('HGET', ctx, 'seq')
  redis.pcall('XADD', rec, 'MAXLEN', '~', turns, '*', 'agent', agent, 'id', id, 'seq', seq, 'epoch', epoch, 'z', bytes)
  redis.pcall('XTRIM', rec, 'MINID', '~', string.format('%.0f', math.max(0, now_ms() - ms)))
  redis.pcall('PEXPIRE', rec, ms)
end

