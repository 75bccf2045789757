-- restore_fence: restore a lost fence, for the attempt that the run's row names. The text that the
-- attempt holds is kept at once, because a seal may come before the attempt's next text.snapshot.
local attempt, index, whole = tonumber(ARGV[8]), ARGV[9], ARGV[10]

ensure_epoch()
local refused = refusal(attempt)
-- The run may have ended since the row was read. Settling it has then removed the fence.
if refused == 'superseded' or field(run .. ':final') then return {'superseded'} end
-- A call that arrives late must not undo the appends that came after it.
if not refused and tonumber(field(run .. ':index')) > tonumber(index) then return {'ok', digits(head())} end
redis.call('HSET', state, run .. ':attempt', attempt, run .. ':text_attempt', attempt,
  run .. ':unpublished', 1, run .. ':index', index, run .. ':last_delta', digits(head()),
  'server', server_id())
redis.call('DEL', reasoning)
redis.call('SET', text, whole, 'EX', state_ttl)
return {'ok', digits(head())}
