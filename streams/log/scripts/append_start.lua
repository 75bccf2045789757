-- append_start: append run.started and raise the fence to its attempt.
register('append_start', unless_deleted(function()
  local type, data, attempt = ARGV[5], ARGV[6], tonumber(ARGV[7])
  local abandoned = ARGV[8] ~= '' -- the previous attempt did not record how far it came

  local at = ensure_epoch()
  local fence = tonumber(field(run .. ':attempt') or '0')
  -- The run may have ended since it was claimed. `release_run` may then have removed the fence.
  if fence > attempt or field(run .. ':final') then return {'superseded'} end
  if fence == attempt then
    local before = field(run .. ':started')
    if field(run .. ':sealed') then return {'superseded'} end
    if before then return {'ok', before} end
  end
  -- If the previous worker and Redis both died, perhaps no process knows which events were lost.
  -- Their ids must not be given again, so a new epoch begins. A worker that released the run has
  -- recorded the head, but an abandoned attempt did not record how far it came.
  local here = server_id()
  if attempt > 1 and (abandoned or at ~= min_head) and (field('server') or here) ~= here then begin_epoch(at) end
  local id = append_event(type, data)
  redis.call('HSET', state, 'server', here, run .. ':attempt', attempt, run .. ':slots_of', attempt,
    run .. ':index', -1, run .. ':started', id)
  redis.call('HDEL', state, run .. ':sealed', run .. ':unpublished', run .. ':open_slot')
  redis.call('DEL', slots, open_slot)
  return {'ok', id}
end))
