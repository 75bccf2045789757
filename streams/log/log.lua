-- The event log of one channel, as a script that Redis runs: each call is one atomic operation.
--
-- KEYS  1 the state (hash)  2 the events (stream)  3 a run's text  4 a run's reasoning
-- ARGV  1 the operation  2 min_head, the highest event id that the caller knows (here `known`)
--       3 the caller's clock, in microseconds  4 how many events to keep
--       5 seconds until the events expire  6 seconds until the state expires  7 the channel
--       8 the run, or nothing  9… the operation's own arguments
--
-- streams/log/event_log.py calls the operations: `tell` for append_once, `start` for append_start,
-- `fence` for restore_fence, `speak` for append, `confirm` for verify, `close` for seal, `end` for
-- append_final, `look` for state, `read` for read_after, `forget` for release_run, and `delete`.
--
-- An epoch is a stretch of the log without loss. After a loss, a new epoch begins with higher ids.
--
-- Fields of the state:
--   head       the last id given
--   first      the first id of this epoch
--   origin     1 if this epoch began with the conversation, otherwise 0
--   server     the Redis process that was last verified to hold all events
--   gone       set once the conversation is deleted
-- of each run R whose end is not yet settled in the database:
--   R:attempt  the fence: the only attempt that may append
--   R:closed   set once the reply is sealed; UNREAD if the log knew nothing of the reply
--   R:told     the attempt whose text is kept
--   R:index    the index of the last delta; R:latest is the id of that delta
--   R:started  the id of run.started
--   R:message, R:queued, R:ending   the ids of the events that are appended once for a run
-- and of a settled run R:
--   R:ended    when it was settled, in microseconds
local state, events, text, thought = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local verb, known, clock = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local keep, life, memory, channel, run = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

-- Readers may have received up to this many events beyond the caller's min_head. A new epoch must
-- begin above those ids too, even if the clock was set back.
local BEYOND = 1000000

-- Prefix of `R:told`: that attempt's text is kept, but this epoch does not hold its events.
local UNTOLD = 'not by '

-- Value of `R:closed`: the log knew nothing of the reply when it was sealed.
local UNREAD = 'unread'

-- Lua would write a number of sixteen digits as 1.7e+15.
local function digits(n) return string.format('%.0f', n) end
local function field(name) return redis.call('HGET', state, name) end

local function head()
  return tonumber(field('head') or '0')
end

-- The keys of a run's text and reasoning so far.
local function spoken(of) return '{' .. channel .. '}:text:' .. of, '{' .. channel .. '}:thought:' .. of end

local function clear()
  for _, name in ipairs(redis.call('HKEYS', state)) do
    local unsettled = string.match(name, '^(.+):attempt$')
    if unsettled then redis.call('DEL', spoken(unsettled)) end
  end
  redis.call('DEL', state, events)
end

-- Begin a new epoch above every id that a reader can have received. Two epochs may be lost within a
-- second, and the second caller may not know of the first: the clock's last digits keep the ids of
-- the two apart.
local function begin(above)
  clear()
  local first = math.max(clock, above + BEYOND + clock % BEYOND)
  redis.call('HSET', state, 'head', digits(first - 1), 'first', digits(first), 'origin', above == 0 and 1 or 0)
  redis.call('EXPIRE', state, memory)
  return first - 1
end

-- Return the head. If it is below the caller's min_head, the newest events were lost. The rest is
-- then dropped and a new epoch begins, because readers would take the rest for the whole.
local function live_on()
  local at = head()
  if at > 0 and at >= known then return at end
  return begin(known)
end

-- Append an event: give it the next id, store it, renew the expiries and publish it.
local function say(type, data)
  local id = digits(live_on() + 1)
  redis.call('XADD', events, 'MAXLEN', '~', keep, id .. '-0', 'type', type, 'data', data)
  redis.call('HSET', state, 'head', id)
  redis.call('EXPIRE', events, life)
  redis.call('EXPIRE', state, memory)
  redis.call('PUBLISH', channel, id .. ' ' .. type .. ' ' .. data)
  return id
end

-- The reason why this attempt may not append to the run's reply; nil if it may.
local function refusal(attempt)
  local fence, closed = unpack(redis.call('HMGET', state, run .. ':attempt', run .. ':closed'))
  if not fence then return 'missing' end
  if tonumber(fence) ~= attempt or closed then return 'superseded' end
  return nil
end

-- The id of a delta that was appended before, found by the beginning of its data. Only a few events
-- of other callers stand between a run's deltas. So the search begins at the id that the delta
-- would have without them, and goes back 32 entries at most.
local function said(beginning, ago)
  local latest = tonumber(field(run .. ':latest'))
  for _, entry in ipairs(redis.call('XREVRANGE', events, digits(latest - ago), '-', 'COUNT', 32)) do
    if string.sub(entry[2][4], 1, #beginning) == beginning then
      return string.match(entry[1], '^%d+')
    end
  end
  return digits(latest)
end

-- The run_id of this Redis process: it changes with a restart or a failover.
local function server()
  local told = tostring(redis.pcall('INFO', 'server'))
  local _, at = string.find(told, 'run_id:', 1, true)
  return at and string.sub(told, at + 1, at + 40) or ''
end

-- The run whose attempt must verify this log, because Redis restarted or failed over since it was
-- last verified. The caller's own run comes first. nil if the process is the verified one, or if no
-- attempt is left that could verify.
local function doubtful()
  local sure = field('server')
  if not sure or sure == server() then return nil end
  if field(run .. ':attempt') and not field(run .. ':closed') then return run end
  for _, name in ipairs(redis.call('HKEYS', state)) do
    local open = string.match(name, '^(.+):attempt$')
    if open and not field(open .. ':closed') then return open end
  end
  return nil
end

-- The id of the oldest event that is kept; the next id if none is.
local function lowest()
  local entry = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  return entry and tonumber(string.match(entry[1], '^%d+')) or head() + 1
end

if field('gone') then return {'gone'} end

-- tell: append an event that needs no fence. With a kind, append it only once for the run; a repeat
-- returns the first id.
if verb == 'tell' then
  local type, data, kind = ARGV[9], ARGV[10], ARGV[11]
  live_on()
  local before = kind ~= '' and field(run .. ':' .. kind)
  if before then return {'ok', before} end
  if doubtful() then return {'doubtful'} end
  local id = say(type, data)
  if kind ~= '' then redis.call('HSET', state, run .. ':' .. kind, id) end
  return {'ok', id}
end

-- start: append run.started and raise the fence to its attempt.
if verb == 'start' then
  local type, data, attempt, abandoned = ARGV[9], ARGV[10], tonumber(ARGV[11]), ARGV[12] ~= ''
  local at = live_on()
  local fence = tonumber(field(run .. ':attempt') or '0')
  -- The run may have ended since it was claimed. Settling it has then removed the fence.
  if fence > attempt or field(run .. ':ending') then return {'superseded'} end
  if fence == attempt then
    local before = field(run .. ':started')
    if field(run .. ':closed') then return {'superseded'} end
    if before then return {'ok', before} end
  end
  -- If the previous worker and Redis both died, no process may know which events were lost. Their
  -- ids must not be given again, so a new epoch begins. A worker that released the run has recorded
  -- its head; how far an abandoned attempt came is unknown.
  local here = server()
  if attempt > 1 and (abandoned or at ~= known) and (field('server') or here) ~= here then begin(at) end
  local id = say(type, data)
  redis.call('HSET', state, 'server', here, run .. ':attempt', attempt, run .. ':told', attempt,
    run .. ':index', -1, run .. ':started', id)
  redis.call('HDEL', state, run .. ':closed')
  redis.call('DEL', text, thought)
  return {'ok', id}
end

-- fence: restore a lost fence, for the attempt that the run's row names. The text that the attempt
-- holds is kept at once, because a seal may come before the attempt's next text.snapshot.
if verb == 'fence' then
  local attempt, index, piece = tonumber(ARGV[9]), ARGV[10], ARGV[11]
  live_on()
  local why = refusal(attempt)
  -- The run may have ended since the row was read. Settling it has then removed the fence.
  if why == 'superseded' or field(run .. ':ending') then return {'superseded'} end
  -- A call that arrives late must not undo the appends that came after it.
  if not why and tonumber(field(run .. ':index')) > tonumber(index) then return {'ok', digits(head())} end
  redis.call('HSET', state, run .. ':attempt', attempt, run .. ':told', UNTOLD .. attempt, run .. ':index', index,
    run .. ':latest', digits(head()), 'server', server())
  redis.call('DEL', thought)
  redis.call('SET', text, piece, 'EX', memory)
  return {'ok', digits(head())}
end

-- speak: append the next delta of a reply, or its whole text again (text.snapshot).
if verb == 'speak' then
  local type, data, attempt = ARGV[9], ARGV[10], tonumber(ARGV[11])
  local index, piece, where, beginning = tonumber(ARGV[12]), ARGV[13], ARGV[14], ARGV[15]
  -- The conversation may have been deleted, and Redis emptied since: no epoch may begin then.
  if not field(run .. ':attempt') then return {'missing'} end
  live_on()
  local why = refusal(attempt)
  if why then return {why} end
  local last = tonumber(field(run .. ':index'))
  if index > last + 1 and where ~= 'whole' then return {'gap'} end
  -- The log holds this attempt's events, but those of other callers may be missing. The row has the
  -- recorded head, so the attempt must verify the log against that first.
  if field('server') ~= server() then return {'doubtful'} end
  if index <= last then return {'ok', said(beginning, last - index)} end
  local id = say(type, data)
  redis.call('HSET', state, run .. ':index', index, run .. ':latest', id)
  local key = where == 'thought' and thought or text
  if where == 'whole' then
    redis.call('SET', key, piece)
    redis.call('HSET', state, run .. ':told', attempt)
  else
    redis.call('APPEND', key, piece)
  end
  redis.call('EXPIRE', key, memory)
  return {'ok', id}
end

-- confirm: verify the log. The caller's min_head covers the attempt's own events and the recorded
-- head of the row. If the log reaches that far, this Redis process counts as verified.
if verb == 'confirm' then
  if not field(run .. ':attempt') then return {'ok'} end
  live_on()
  if not refusal(tonumber(ARGV[9])) then redis.call('HSET', state, 'server', server()) end
  return {'ok'}
end

-- close: seal a run's reply, so that no attempt can append to it. Returns the reply so far, and
-- whether the log knows it. An attempt that has not started leaves the text of the one before it.
-- An unverified log is left to the attempt (`leave`), or a new epoch begins with the text that is
-- left (`settle`), because that attempt is gone.
if verb == 'close' then
  local attempt, doubt = tonumber(ARGV[9]), ARGV[10]
  live_on()
  local fence = tonumber(field(run .. ':attempt') or '-1')
  if fence > attempt then return {'superseded'} end
  -- A seal without a fence may have returned nothing. A repeated seal must return the same.
  local remembered = (fence >= 0 and field(run .. ':closed') ~= UNREAD) or field(run .. ':queued')
  local open = doubt ~= 'none' and doubtful()
  if open then
    if doubt == 'leave' or open ~= run then return {'doubtful'} end
    local kept, thoughts = redis.call('GET', text), redis.call('GET', thought)
    begin(head())
    if kept then redis.call('SET', text, kept, 'EX', memory) end
    if thoughts then redis.call('SET', thought, thoughts, 'EX', memory) end
  end
  redis.call('HSET', state, run .. ':attempt', attempt, run .. ':closed', remembered and 1 or UNREAD)
  return {'ok', remembered and 1 or 0, redis.call('GET', text) or '', redis.call('GET', thought) or '', digits(head())}
end

-- end: append a run's final event, once. The log's text must then equal the stored text. If it
-- differs, or is an earlier attempt's, a text.snapshot with the stored text comes before. If the
-- attempt never appended its run.started, that comes first.
if verb == 'end' then
  local type, data, attempt = ARGV[9], ARGV[10], ARGV[11]
  local stored, whole_type, whole_before, whole_after = ARGV[12], ARGV[13], ARGV[14], ARGV[15]
  local start_type, start = ARGV[16], ARGV[17]
  live_on()
  local before = field(run .. ':ending')
  if before then return {'ok', before} end
  local open = doubtful()
  if open and open ~= run then return {'doubtful'} end
  local told = field(run .. ':told')
  if (redis.call('GET', text) or '') ~= stored or (stored ~= '' and told ~= attempt) then
    local index = (told == attempt or told == UNTOLD .. attempt) and tonumber(field(run .. ':index')) + 1 or 0
    if told and told ~= attempt and told ~= UNTOLD .. attempt then say(start_type, start) end
    say(whole_type, whole_before .. digits(index) .. whole_after)
  end
  local id = say(type, data)
  redis.call('HSET', state, run .. ':ending', id, run .. ':closed', 1, run .. ':attempt', attempt)
  redis.call('SET', text, stored, 'EX', life)
  return {'ok', id}
end

-- look: the state of the channel at this moment, with the text and reasoning of each unsettled run.
if verb == 'look' then
  live_on()
  local fields = redis.call('HGETALL', state)
  local texts = {}
  for i = 1, #fields, 2 do
    local unsettled = string.match(fields[i], '^(.+):attempt$')
    if unsettled then
      local heard = redis.call('MGET', spoken(unsettled))
      texts[#texts + 1] = {unsettled, heard[1] or '', heard[2] or ''}
    end
  end
  return {'ok', fields, texts}
end

-- Events after a cursor: at most `count`, of at most `limit` bytes together, but at least one. They
-- are read from the stream STEP at a time, so that the script never holds `count` long events.
local STEP = 16
local function page(cursor, count, limit)
  local found, bytes = {}, 0
  while #found < count do
    local step = redis.call('XRANGE', events, digits(cursor + 1) .. '-0', '+', 'COUNT', math.min(STEP, count - #found))
    for _, entry in ipairs(step) do
      bytes = bytes + #entry[2][2] + #entry[2][4]
      if bytes > limit and #found > 0 then return found end
      found[#found + 1] = entry
    end
    if #step < STEP then break end
    cursor = tonumber(string.match(step[#step][1], '^%d+'))
  end
  return found
end

-- read: a page of events after a cursor, or the reason why the log cannot resume there.
if verb == 'read' then
  local cursor, count, limit = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
  local at = head()
  if at < known then return {'lost', digits(at)} end
  if at == 0 then return {cursor == 0 and 'ok' or 'lost', '0', {}} end
  if cursor > at then return {'ahead', digits(at)} end
  local first, low = tonumber(field('first')), lowest()
  if cursor == 0 then
    if field('origin') ~= '1' then return {'lost', digits(at)} end
    if low ~= first then return {'expired', digits(at)} end
  elseif cursor < first - 1 then return {'lost', digits(at)}
  elseif cursor < low - 1 then return {'expired', digits(at)} end
  return {'ok', digits(at), page(cursor, count, limit)}
end

-- forget: drop what was kept for a settled run, because the database has its final event's id. The
-- ids of events that are appended once stay for an hour, for callers that read the row before.
if verb == 'forget' then
  if head() == 0 then return {'ok'} end
  redis.call('HDEL', state, run .. ':attempt', run .. ':told', run .. ':closed', run .. ':index',
    run .. ':latest', run .. ':started')
  redis.call('DEL', text, thought)
  redis.call('HSET', state, run .. ':ended', digits(clock))
  local fields = redis.call('HGETALL', state)
  for i = 1, #fields, 2 do
    local settled = string.match(fields[i], '^(.+):ended$')
    if settled and tonumber(fields[i + 1]) < clock - 3600 * 1000000 then
      redis.call('HDEL', state, settled .. ':ended', settled .. ':message', settled .. ':queued',
        settled .. ':ending')
    end
  end
  return {'ok'}
end

-- delete: the conversation is deleted, so the log refuses every later call.
if verb == 'delete' then
  clear()
  redis.call('HSET', state, 'gone', 1)
  redis.call('EXPIRE', state, memory)
  redis.call('PUBLISH', channel, '')
  return {'ok'}
end

return redis.error_reply('no such verb: ' .. verb)
