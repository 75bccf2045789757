-- append: append the next delta of a reply, or its whole text again (text.snapshot).
local type, data, attempt, index = ARGV[8], ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
local piece = ARGV[12] -- the text of the delta
local kind = ARGV[13] -- `text`, `reasoning`, or `whole` for the whole text again
local beginning = ARGV[14] -- the beginning of the data, which no other delta of the run shares

-- The id of a delta that was appended before, found by the beginning of its data. Only a few events
-- of other callers stand between a run's deltas. So the search begins at the id that the delta
-- would have without them, and goes back 32 entries at most.
local function id_of_delta(back)
  local last = tonumber(field(run .. ':last_delta'))
  for _, entry in ipairs(redis.call('XREVRANGE', events, digits(last - back), '-', 'COUNT', 32)) do
    if string.sub(entry[2][4], 1, #beginning) == beginning then
      return string.match(entry[1], '^%d+')
    end
  end
  return digits(last)
end

-- The conversation may have been deleted, and Redis emptied since: no epoch may begin then.
if not field(run .. ':attempt') then return {'fence_missing'} end
ensure_epoch()
local refused = refusal(attempt)
if refused then return {refused} end
local last = tonumber(field(run .. ':index'))
if index > last + 1 and kind ~= 'whole' then return {'gap'} end
-- The log holds this attempt's events, but those of other callers may be missing. The row has the
-- recorded head, so the attempt must verify the log against that first.
if field('server') ~= server_id() then return {'unverified'} end
if index <= last then return {'ok', id_of_delta(last - index)} end
local id = append_event(type, data)
redis.call('HSET', state, run .. ':index', index, run .. ':last_delta', id)
local key = kind == 'reasoning' and reasoning or text
if kind == 'whole' then
  redis.call('SET', key, piece)
  redis.call('HSET', state, run .. ':text_attempt', attempt)
  redis.call('HDEL', state, run .. ':unpublished')
else
  redis.call('APPEND', key, piece)
end
redis.call('EXPIRE', key, state_ttl)
return {'ok', id}
