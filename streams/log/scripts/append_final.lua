-- append_final: append a run's final event, once, with the events before it that a reader lacks. All
-- are prepared for what a seal saw: `changed` if the log holds another reply since.
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
