-- seal: seal a run's reply, so that no attempt can append to it. Returns whether the log knows the
-- reply, the attempt whose reply it holds, whether this epoch lacks its events, the index of the
-- last piece, the slots, the number and the payload of the open slot, the head, and a token of this
-- state. If the attempt has not started, the log holds the reply of the attempt before it.
register('seal', unless_deleted(function()
  local attempt = tonumber(ARGV[5])
  local on_unverified = ARGV[6] -- `ignore`, `raise`, or `new_epoch` with the reply that is left
  local ended = ARGV[7] ~= '' -- the row says that the run has ended in this attempt

  ensure_epoch()
  local fence = tonumber(field(run .. ':attempt') or '-1')
  if fence > attempt and not ended then return {'superseded'} end
  -- `unknown` is the result of an earlier seal. A repeated seal must return the same.
  local known = (fence >= 0 and field(run .. ':sealed') ~= 'unknown') or field(run .. ':queued')
  local open = on_unverified ~= 'ignore' and unverified_run()
  if open then
    if on_unverified == 'raise' or open ~= run then return {'unverified'} end
    local names = {run .. ':slots_of', run .. ':open_slot', run .. ':index'}
    local values = redis.call('HMGET', state, unpack(names))
    begin_epoch(head(), run)
    redis.call('HSET', state, run .. ':unpublished', 1)
    for i, name in ipairs(names) do
      if values[i] then redis.call('HSET', state, name, values[i]) end
    end
  end
  redis.call('HSET', state, run .. ':attempt', attempt, run .. ':sealed', known and 'known' or 'unknown')
  local slots_of, unpublished, index, opened = unpack(redis.call('HMGET', state, run .. ':slots_of',
    run .. ':unpublished', run .. ':index', run .. ':open_slot'))
  return {'ok', known and 1 or 0, slots_of or '', unpublished or '', index or '-1', redis.call('HGETALL', slots),
    opened or '', redis.call('GET', open_slot) or '', digits(head()), token()}
end))
