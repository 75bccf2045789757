-- append: append the next piece of a reply, or all its parts again (text.snapshot). It is called for
-- every token, so it reads the state with one command and writes it with one.
local TRIMMED_EVERY = 64 -- pieces between two trims, so the log may be longer by this number

-- The id of a piece that was appended before. The beginning of its data, up to the index,
-- identifies it among all pieces of the run. Other callers append only a few events between a run's
-- pieces. So the search begins at the id that the piece would have without them, and goes back 32
-- entries. Without a match, the id of the run's last piece.
local function id_of_piece(data, back)
  local beginning, last = string.match(data, '^.-"index":%d+,'), tonumber(field(run .. ':last_piece'))
  for _, entry in ipairs(redis.call('XREVRANGE', events, digits(last - back), '-', 'COUNT', 32)) do
    if string.sub(entry[2][4], 1, #beginning) == beginning then
      return string.match(entry[1], '^%d+')
    end
  end
  return digits(last)
end

-- Make `slot` the open slot. The payload of the slot that was open (`before`) moves into the hash.
local function open(slot, before)
  if before then
    redis.call('HSET', slots, before, redis.call('GET', open_slot) or '')
    redis.call('EXPIRE', slots, state_ttl())
  end
  redis.call('SET', open_slot, redis.call('HGET', slots, slot) or '', 'EX', state_ttl())
  redis.call('HSET', state, run .. ':open_slot', slot)
end

register('append', function()
  local type, data, attempt, index = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
  local mode = ARGV[9] -- `append` to the slot, `set` the slot, or `replace` all slots
  local slot, payload = ARGV[10], ARGV[11]
  local SLOTS = 10 -- for `replace`, from this argument on: pairs of number and payload

  local index_field = run .. ':index'
  local deleted, at, verified, bytes, renew_at, fence, sealed, last, opened = unpack(redis.call('HMGET', state,
    'deleted', 'head', 'server', 'bytes', 'renew_at', run .. ':attempt', run .. ':sealed', index_field,
    run .. ':open_slot'))
  if deleted then return {'deleted'} end
  at, last = tonumber(at), tonumber(last)
  -- Without a fence, no epoch begins. The conversation may be deleted, and then Redis emptied, so
  -- that the field `deleted` is lost.
  if fence and ensure_epoch(at) ~= at then fence = nil end
  local refused = refusal(attempt, fence, sealed)
  if refused then return {refused} end
  if index > last + 1 and mode ~= 'replace' then return {'gap'} end
  -- The log holds this attempt's events, but events of other callers may be missing. So the attempt
  -- must first verify the log against the recorded head, which is in the conversation's row.
  if verified ~= server_id() then return {'unverified'} end
  if index <= last then return {'ok', id_of_piece(data, last - index)} end

  local id = digits(at + 1)
  if index % TRIMMED_EVERY == 0 then
    redis.call('XADD', events, 'MAXLEN', '~', (bounds()), id .. '-0', 'type', type, 'data', data)
  else
    redis.call('XADD', events, id .. '-0', 'type', type, 'data', data)
  end
  bytes = (tonumber(bytes) or 0) + #data
  redis.call('HSET', state, 'head', id, 'bytes', bytes, index_field, ARGV[8], run .. ':last_piece', id)
  if bytes >= MARK_BYTES then mark(id) end
  if now >= (tonumber(renew_at) or 0) then renew_expiries() end
  redis.call('PUBLISH', channel, id .. ' ' .. type .. ' ' .. data)
  if mode == 'replace' then
    replace_slots(SLOTS)
    redis.call('HSET', state, run .. ':slots_of', attempt)
    redis.call('HDEL', state, run .. ':unpublished')
  elseif mode == 'append' then
    if slot ~= opened then open(slot, opened) end
    redis.call('APPEND', open_slot, payload)
  else
    redis.call('HSET', slots, slot, payload)
    redis.call('EXPIRE', slots, state_ttl())
  end
  return {'ok', id}
end)
