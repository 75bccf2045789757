-- verify: the caller's min_head is the higher of the attempt's watermark and the recorded head. If
-- the log's head is not below it, or a new epoch has begun, this Redis process counts as verified.
register('verify', unless_deleted(function()
  local attempt = tonumber(ARGV[5])

  if not field(run .. ':attempt') then return {'ok'} end
  ensure_epoch()
  if not refusal(attempt, fence_and_sealed()) then redis.call('HSET', state, 'server', server_id()) end
  return {'ok'}
end))
