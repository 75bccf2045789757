-- verify: the caller's min_head covers the attempt's own events and the recorded head of the row. If
-- the log reaches that far, this Redis process counts as verified.
register('verify', unless_deleted(function()
  local attempt = tonumber(ARGV[5])

  if not field(run .. ':attempt') then return {'ok'} end
  ensure_epoch()
  if not refusal(attempt, fence_and_sealed()) then redis.call('HSET', state, 'server', server_id()) end
  return {'ok'}
end))
