-- append_final: append a run's final event, after the events that its readers still lack. A repeat
-- appends nothing. The events were prepared for the reply that a seal returned. The answer is
-- `changed` if the log no longer holds that reply.
register('append_final', unless_deleted(function()
  local attempt, seen = ARGV[5], ARGV[6] -- `seen`: the token of the seal
  local EVENTS = 7 -- from this argument on: the events, as pairs of type and data

  ensure_epoch()
  local before = field(run .. ':final')
  if before then return {'ok', before} end
  local open = unverified_run()
  if open and open ~= run then return {'unverified'} end
  if token() ~= seen then return {'changed'} end
  local id
  for i = EVENTS, #ARGV, 2 do id = append_event(ARGV[i], ARGV[i + 1]) end
  redis.call('HSET', state, run .. ':final', id, run .. ':sealed', 'known', run .. ':attempt', attempt)
  return {'ok', id}
end))
