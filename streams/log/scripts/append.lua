-- append: append the next piece of a reply, or all its parts again (text.snapshot).
local type, data, attempt, index = ARGV[8], ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
local beginning = ARGV[12] -- the beginning of the data, which no other piece of the run shares
local mode = ARGV[13] -- `append` to the slot, `set` the slot, or `replace` all slots
local slot, payload = ARGV[14], ARGV[15]
local SLOTS = 14 -- for `replace`, from this argument on: pairs of number and payload

-- The id of a piece that was appended before, found by the beginning of its data. Only a few events
-- of other callers stand between a run's pieces. So the search begins at the id that the piece
-- would have without them, and goes back 32 entries at most.
local function id_of_piece(back)
  local last = tonumber(field(run .. ':last_piece'))
  for _, entry in ipairs(redis.call('XREVRANGE', events, digits(last - back), '-', 'COUNT', 32)) do
    if string.sub(entry[2][4], 1, #beginning) == beginning then
      return string.match(entry[1], '^%d+')
    end
  end
  return digits(last)
end

-- Make this the open slot. What the open string holds moves into the hash.
local function open(before)
  if before then
    redis.call('HSET', slots, before, redis.call('GET', open_slot) or '')
    redis.call('EXPIRE', slots, state_ttl)
  end
  redis.call('SET', open_slot, redis.call('HGET', slots, slot) or '', 'EX', state_ttl)
  redis.call('HSET', state, run .. ':open_slot', slot)
end

-- The conversation may have been deleted, and Redis emptied since: no epoch may begin then.
if not field(run .. ':attempt') then return {'fence_missing'} end
ensure_epoch()
local refused = refusal(attempt)
if refused then return {refused} end
local last, verified, opened = unpack(redis.call('HMGET', state, run .. ':index', 'server', run .. ':open_slot'))
last = tonumber(last)
if index > last + 1 and mode ~= 'replace' then return {'gap'} end
-- The log holds this attempt's events, but those of other callers may be missing. The row has the
-- recorded head, so the attempt must verify the log against that first.
if verified ~= server_id() then return {'unverified'} end
if index <= last then return {'ok', id_of_piece(last - index)} end
local id = append_event(type, data)
redis.call('HSET', state, run .. ':index', index, run .. ':last_piece', id)
if mode == 'replace' then
  replace_slots(SLOTS)
  redis.call('HSET', state, run .. ':slots_of', attempt)
  redis.call('HDEL', state, run .. ':unpublished')
elseif mode == 'append' then
  if slot ~= opened then open(opened) end
  redis.call('APPEND', open_slot, payload)
else
  redis.call('HSET', slots, slot, payload)
  redis.call('EXPIRE', slots, state_ttl)
end
return {'ok', id}
