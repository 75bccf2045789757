-- restore_fence: restore a lost fence, for the attempt that the run's row names. This also stores
-- the attempt's parts, because a seal may come before the attempt's next text.snapshot.
register('restore_fence', unless_deleted(function()
  local attempt, index = tonumber(ARGV[5]), ARGV[6]
  local SLOTS = 7 -- from this argument on: the slots of the reply, as pairs of number and payload

  ensure_epoch()
  local refused = refusal(attempt, fence_and_sealed())
  -- The run may have ended since the row was read. `release_run` may then have removed the fence.
  if refused == 'superseded' or field(run .. ':final') then return {'superseded'} end
  -- A call that arrives late must not undo the appends that came after it.
  if not refused and tonumber(field(run .. ':index')) > tonumber(index) then return {'ok', digits(head())} end
  redis.call('HSET', state, run .. ':attempt', attempt, run .. ':slots_of', attempt, run .. ':unpublished', 1,
    run .. ':index', index, run .. ':last_piece', digits(head()), 'server', server_id())
  replace_slots(SLOTS)
  return {'ok', digits(head())}
end))
