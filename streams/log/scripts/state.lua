-- state: the state of the channel at this moment, with the slots and the open slot's payload of each
-- unsettled run. It changes nothing. `lost` if the log holds no epoch, or has lost its newest events.
register('state', unless_deleted(function()
  if head() == 0 or head() < min_head then return {'lost'} end
  local fields = redis.call('HGETALL', state)
  local runs = {}
  for i = 1, #fields, 2 do
    local unsettled = string.match(fields[i], '^(.+):attempt$')
    if unsettled then
      local hash, open = slot_keys(unsettled)
      runs[#runs + 1] = {unsettled, redis.call('HGETALL', hash), redis.call('GET', open) or ''}
    end
  end
  return {'ok', fields, runs}
end), 'no-writes')
