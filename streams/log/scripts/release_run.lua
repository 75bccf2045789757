-- release_run: drop the data of a settled run, whose final event's id is in the database. The ids
-- of the events that are appended once stay for an hour, for callers that still have the old row.
register('release_run', unless_deleted(function()
  local HOUR = 3600 * 1000000

  if head() == 0 then return {'ok'} end
  redis.call('HDEL', state, run .. ':attempt', run .. ':slots_of', run .. ':unpublished', run .. ':sealed',
    run .. ':open_slot', run .. ':index', run .. ':last_piece', run .. ':started')
  redis.call('DEL', slots, open_slot)
  redis.call('HSET', state, run .. ':released_at', digits(now))
  local fields = redis.call('HGETALL', state)
  for i = 1, #fields, 2 do
    local settled = string.match(fields[i], '^(.+):released_at$')
    if settled and tonumber(fields[i + 1]) < now - HOUR then
      redis.call('HDEL', state, settled .. ':released_at', settled .. ':message', settled .. ':queued',
        settled .. ':final')
    end
  end
  return {'ok'}
end), 'allow-oom')
