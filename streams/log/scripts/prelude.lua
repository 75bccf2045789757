-- The code that all operations share. streams/log/library.py joins this file and the operations'
-- files to one library. Redis runs each function as one atomic step, on the keys of one channel.
--
-- KEYS  1 the state (hash). From its name the functions form the names of the channel's other keys:
--       the events (stream) and, for each run, its slots (hash) and its open slot (string).
-- ARGV  1 min_head, the highest event id that the caller knows  2 the caller's clock, in µs
--       3 the number of events to keep, the seconds until they expire, and until the state expires
--       4 the run's id, or ''  5… the arguments of the operation, named at the top of its file
--
-- The first item of an answer is a `Verdict` (streams/log/verdicts.py).
--
-- An epoch is a stretch of the log without loss. After a loss, a new epoch begins with higher ids.
--
-- A reply is kept in slots: the payload of slot 0 stands for its first part, and so on. The library
-- does not know what a payload means. Text is appended to the open slot, which has a string of its
-- own. When another slot is opened, the payload of the previous one moves into the hash.
--
-- Fields of the state:
--   head           the last id given
--   epoch_start    the first id of this epoch
--   origin         1 if this epoch began with the conversation, otherwise 0
--   server         the Redis process that was last verified to hold all events
--   bytes          the size of the data of all events since the last mark
--   marks          ids of events, one every MARK_BYTES
--   renew_at       when an append of a piece must renew the expiries again, in microseconds
--   deleted        set once the conversation is deleted
-- of each run R that is not settled, which means that the database lacks its final event's id:
--   R:attempt      the fence: the only attempt that may append
--   R:sealed       set once the reply is sealed: `known`, or `unknown` if the log had lost the run
--   R:slots_of     the attempt whose reply is kept
--   R:unpublished  1 if that reply is kept, but this epoch does not hold its events
--   R:open_slot    the number of the open slot
--   R:index        the index of the last piece; R:last_piece is the id of its event
--   R:started      the id of run.started
--   R:message, R:queued, R:final   the ids of the events that are appended once for a run
-- and of a settled run R:
--   R:released_at  when it was settled, in microseconds
local state, events, slots, open_slot, channel, run, min_head, now, limits, ARGV

-- Set the variables of one call. None keeps a value of the call before.
local function begin(keys, arguments)
  state, ARGV = keys[1], arguments
  channel = string.sub(state, 2, -8) -- the key is {channel}:state
  min_head, now, limits, run = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
  local prefix = string.sub(state, 1, -6)
  events, slots, open_slot = prefix .. 'events', prefix .. 'slots:' .. run, prefix .. 'open:' .. run
end

-- Readers may have received up to this many events beyond the caller's min_head. A new epoch must
-- begin above those ids too, even if the clock was set back.
local MARGIN = 1000000

-- The events' data takes at most MARKS + 1 times MARK_BYTES, plus one event for each of them.
local MARK_BYTES, MARKS = 4 * 1024 * 1024, 7

-- Lua would write a number of sixteen digits as 1.7e+15.
local function digits(n) return string.format('%.0f', n) end
local function field(name) return redis.call('HGET', state, name) end
local function head() return tonumber(field('head') or '0') end

-- The number of events to keep, the seconds until they expire, and until the state expires.
local function bounds() return string.match(limits, '^(%d+) (%d+) (%d+)$') end
local function state_ttl() return (select(3, bounds())) end

-- The keys of a run's slots and of its open slot.
local function slot_keys(of)
  return '{' .. channel .. '}:slots:' .. of, '{' .. channel .. '}:open:' .. of
end

-- Delete the log. The slots of the run `kept` stay.
local function clear(kept)
  for _, name in ipairs(redis.call('HKEYS', state)) do
    local unsettled = string.match(name, '^(.+):attempt$')
    if unsettled and unsettled ~= kept then redis.call('DEL', slot_keys(unsettled)) end
  end
  redis.call('DEL', state, events)
end

-- Begin a new epoch above every id that a reader can have received. If two epochs are lost within a
-- second, the second caller may not know of the first new epoch. The clock's last digits then keep
-- the ids of the two epochs apart. The slots of the run `kept` stay.
local function begin_epoch(above, kept)
  clear(kept)
  local first = math.max(now, above + MARGIN + now % MARGIN)
  redis.call('HSET', state, 'head', digits(first - 1), 'epoch_start', digits(first),
    'origin', above == 0 and 1 or 0)
  redis.call('EXPIRE', state, state_ttl())
  return first - 1
end

-- Return the head. An operation that has read it already passes it as `at`. If the head is below
-- the caller's min_head, the newest events were lost. The other events are then dropped and a new
-- epoch begins. Otherwise readers would take the other events for a complete log.
local function ensure_epoch(at)
  at = at or head()
  if at > 0 and at >= min_head then return at end
  return begin_epoch(min_head)
end

-- Mark this event. If there are more than MARKS marks, drop the events before the oldest one.
local function mark(id)
  local marks = (field('marks') or '') .. id .. ' '
  local _, count = string.gsub(marks, ' ', '')
  if count > MARKS then
    redis.call('XTRIM', events, 'MINID', string.match(marks, '^%d+') .. '-0')
    marks = string.gsub(marks, '^%d+ ', '')
  end
  redis.call('HSET', state, 'marks', marks, 'bytes', 0)
end

-- Renew the expiries of the events and of the state. The pieces of a reply do this once in a 64th
-- of the events' lifetime, all other events each time. So during a reply, a log may expire a 64th
-- too early. After the reply's final event it has its whole lifetime.
local function renew_expiries()
  local _, events_ttl, of_state = bounds()
  redis.call('EXPIRE', events, events_ttl)
  redis.call('EXPIRE', state, of_state)
  redis.call('HSET', state, 'renew_at', digits(now + tonumber(events_ttl) * 1000000 / 64))
end

-- Append an event: give it the next id, store it, renew the expiries and publish it.
local function append_event(type, data)
  local id = digits(ensure_epoch() + 1)
  redis.call('XADD', events, 'MAXLEN', '~', (bounds()), id .. '-0', 'type', type, 'data', data)
  redis.call('HSET', state, 'head', id)
  if redis.call('HINCRBY', state, 'bytes', #data) >= MARK_BYTES then mark(id) end
  renew_expiries()
  redis.call('PUBLISH', channel, id .. ' ' .. type .. ' ' .. data)
  return id
end

-- The reason why this attempt may not append to the run's reply; nil if it may. `fence` and `sealed`
-- are the fields R:attempt and R:sealed.
local function refusal(attempt, fence, sealed)
  if not fence then return 'fence_missing' end
  if tonumber(fence) ~= attempt or sealed then return 'superseded' end
  return nil
end
local function fence_and_sealed()
  return unpack(redis.call('HMGET', state, run .. ':attempt', run .. ':sealed'))
end

-- The run_id of this Redis process, which changes with a restart or a failover. The library asks
-- only once, because it belongs to one process. A replica has its own library and run_id.
local run_id
local function server_id()
  if not run_id then
    local info = tostring(redis.pcall('INFO', 'server'))
    local _, at = string.find(info, 'run_id:', 1, true)
    run_id = at and string.sub(info, at + 1, at + 40)
  end
  return run_id or ''
end

-- The run whose attempt must verify this log, because Redis restarted or failed over since it was
-- last verified. The caller's own run comes first. The result is nil if this process is verified,
-- or if no attempt is left that could verify the log.
local function unverified_run()
  local verified = field('server')
  if not verified or verified == server_id() then return nil end
  if field(run .. ':attempt') and not field(run .. ':sealed') then return run end
  for _, name in ipairs(redis.call('HKEYS', state)) do
    local open = string.match(name, '^(.+):attempt$')
    if open and not field(open .. ':sealed') then return open end
  end
  return nil
end

-- Replace the slots by the pairs of number and payload that begin at ARGV[first].
local function replace_slots(first)
  redis.call('DEL', slots, open_slot)
  redis.call('HDEL', state, run .. ':open_slot')
  for i = first, #ARGV, 2 do redis.call('HSET', slots, ARGV[i], ARGV[i + 1]) end
  redis.call('EXPIRE', slots, state_ttl())
end

-- The state of the run's sealed reply as one string, which differs if any of its fields changes.
local function token()
  return table.concat({field('epoch_start'), field(run .. ':attempt') or '', field(run .. ':sealed') or '',
    field(run .. ':slots_of') or '', field(run .. ':index') or '', field(run .. ':unpublished') or ''}, ' ')
end

-- Register an operation. `answer` returns the answer to one call. The rest are flags of a Redis
-- Function: with `no-writes` or `allow-oom`, the operation runs while Redis has no memory left.
local function register(operation, answer, ...)
  redis.register_function{function_name = LIBRARY .. '_' .. operation, flags = {...}, callback = function(keys, arguments)
    begin(keys, arguments)
    return answer()
  end}
end

-- Every operation except `append` begins with this check. `append` reads the field with others.
local function unless_deleted(answer)
  return function()
    if field('deleted') then return {'deleted'} end
    return answer()
  end
end

