-- How a turn went, kept for its replay. This text is put in front of the scripts that end one.
--
-- The entries of rec:<story> have: agent, id (of the event that was answered), seq (the place of the answer, or the log's
-- end where it is not there), epoch (of that log), z (what the worker wrote; no script looks into it). No reader is ever
-- given them.
--
-- It must not leave a half-done script, so its failure is borne: the doctor finds a key of a wrong type, and a worker
-- asks for its rights before.

-- About `turns` of the last `ms` are kept; all of them up to an eighth longer where nothing comes after them, so that their
-- end need not be written with each.
local function remember(rec, ctx, seq, agent, id, epoch, turns, ms, bytes)
  seq = seq or redis.call('HGET', ctx, 'seq')
  redis.pcall('XADD', rec, 'MAXLEN', '~', turns, '*', 'agent', agent, 'id', id, 'seq', seq, 'epoch', epoch, 'z', bytes)
  redis.pcall('XTRIM', rec, 'MINID', '~', string.format('%.0f', math.max(0, now_ms() - ms)))
  local left = redis.pcall('PTTL', rec)
  local most = math.floor(ms * 1.125)
  if type(left) == 'number' and (left < tonumber(ms) or left > most) then
    redis.pcall('PEXPIRE', rec, most)
  end
end

