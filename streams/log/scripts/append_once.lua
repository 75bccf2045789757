-- append_once: append an event that needs no fence. `once` is the name under which the state stores
-- the event's id, or ''. With a name, the event is appended once for the run, and a repeat returns
-- the first id.
register('append_once', unless_deleted(function()
  local type, data, once = ARGV[5], ARGV[6], ARGV[7]

  ensure_epoch()
  local before = once ~= '' and field(run .. ':' .. once)
  if before then return {'ok', before} end
  if unverified_run() then return {'unverified'} end
  local id = append_event(type, data)
  if once ~= '' then redis.call('HSET', state, run .. ':' .. once, id) end
  return {'ok', id}
end))
