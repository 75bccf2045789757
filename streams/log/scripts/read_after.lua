-- read_after: a page of events after a cursor, or the reason why the log cannot resume there. It
-- changes nothing.
register('read_after', unless_deleted(function()
  local cursor, count, max_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

  -- Events after a cursor: at most `count`, of at most `max_bytes` together, but at least one. They
  -- are read from the stream STEP at a time, so that Lua never holds `count` long events.
  local STEP = 16
  local function page()
    local found, bytes, after = {}, 0, cursor
    while #found < count do
      local step = redis.call('XRANGE', events, digits(after + 1) .. '-0', '+', 'COUNT', math.min(STEP, count - #found))
      for _, entry in ipairs(step) do
        bytes = bytes + #entry[2][2] + #entry[2][4]
        if bytes > max_bytes and #found > 0 then return found end
        found[#found + 1] = entry
      end
      if #step < STEP then break end
      after = tonumber(string.match(step[#step][1], '^%d+'))
    end
    return found
  end

  -- The id of the oldest event in the log; if there is none, the id of the next event.
  local function first_id()
    local entry = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
    return entry and tonumber(string.match(entry[1], '^%d+')) or head() + 1
  end

  local at = head()
  if at < min_head then return {'lost'} end
  if at == 0 then
    if cursor == 0 then return {'ok', '0', {}} end
    return {'lost'}
  end
  if cursor > at then return {'ahead'} end
  local epoch_start, first = tonumber(field('epoch_start')), first_id()
  if cursor == 0 then
    if field('origin') ~= '1' then return {'lost'} end
    if first ~= epoch_start then return {'expired'} end
  elseif cursor < epoch_start - 1 then return {'lost'}
  elseif cursor < first - 1 then return {'expired'} end
  return {'ok', digits(at), page()}
end), 'no-writes')
