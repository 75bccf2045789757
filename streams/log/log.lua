-- One channel's log. Each call is one verb; whatever it does, it does atomically.
--
-- KEYS  1 the state (hash)  2 the events (stream)  3 a run's text  4 a run's reasoning
-- ARGV  1 the verb  2 the highest id that the caller knows  3 its clock, in microseconds
--       4 events to keep  5 seconds until the events expire  6 … and the state  7 the channel
--       8 the run, or nothing  9… the verb's own
--
-- The state holds `head`, the last id given; `first`, where this life of the log began;
-- `origin`, whether that was the conversation's beginning; `server`, which was last known to hold
-- all that was said; `gone`, once it was deleted; and for each unsettled run R: `R:attempt`, the
-- fence; `R:closed`; `R:told`, the attempt whose words are kept; `R:index` and `R:latest`, its last
-- delta and that one's id; `R:<kind>`, the id of what may be said once; and of a settled one,
-- `R:ended`, since when.
local state, events, text, thought = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local verb, known, clock = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local keep, life, memory, channel, run = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

-- How many events may have been heard beyond those that a caller knows of: with the clock back, a
-- new life must begin above these, too.
local BEYOND = 1000000

-- As `R:told`, before the attempt whose words are kept: it has not said them in this life.
local UNTOLD = 'not by '

-- As `R:closed`: nothing of its reply was known here.
local UNREAD = 'unread'

-- Sixteen digits joined to a string come out as 1.7e+15.
local function digits(n) return string.format('%.0f', n) end
local function field(name) return redis.call('HGET', state, name) end

local function head()
  return tonumber(field('head') or '0')
end

-- The keys of what a run has said so far.
local function spoken(of) return '{' .. channel .. '}:text:' .. of, '{' .. channel .. '}:thought:' .. of end

local function clear()
  for _, name in ipairs(redis.call('HKEYS', state)) do
    local unsettled = string.match(name, '^(.+):attempt$')
    if unsettled then redis.call('DEL', spoken(unsettled)) end
  end
  redis.call('DEL', state, events)
end

-- A new life begins above every id that anyone can have heard. Where two are lost within a second,
-- and who begins the second knows nothing of the first, the clock's last digits keep them apart.
local function begin(above)
  clear()
  local first = math.max(clock, above + BEYOND + clock % BEYOND)
  redis.call('HSET', state, 'head', digits(first - 1), 'first', digits(first), 'origin', above == 0 and 1 or 0)
  redis.call('EXPIRE', state, memory)
  return first - 1
end

-- A head below what somebody knows means that the tail was lost: what is left must never be
-- taken for what was said.
local function live_on()
  local at = head()
  if at > 0 and at >= known then return at end
  return begin(known)
end

local function say(type, data)
  local id = digits(live_on() + 1)
  redis.call('XADD', events, 'MAXLEN', '~', keep, id .. '-0', 'type', type, 'data', data)
  redis.call('HSET', state, 'head', id)
  redis.call('EXPIRE', events, life)
  redis.call('EXPIRE', state, memory)
  redis.call('PUBLISH', channel, id .. ' ' .. type .. ' ' .. data)
  return id
end

-- Who may speak for a run: nil, or why not.
local function refusal(attempt)
  local fence, closed = unpack(redis.call('HMGET', state, run .. ':attempt', run .. ':closed'))
  if not fence then return 'missing' end
  if tonumber(fence) ~= attempt or closed then return 'superseded' end
  return nil
end

-- The id of a delta that was said before: its data begins with what names it. Deltas stand side by
-- side, but for the few events that others say meanwhile: it is looked for from where it would
-- stand without those, and not far.
local function said(beginning, ago)
  local latest = tonumber(field(run .. ':latest'))
  for _, entry in ipairs(redis.call('XREVRANGE', events, digits(latest - ago), '-', 'COUNT', 32)) do
    if string.sub(entry[2][4], 1, #beginning) == beginning then
      return string.match(entry[1], '^%d+')
    end
  end
  return digits(latest)
end

-- A server tells itself apart from the one that it replaces.
local function server()
  local told = tostring(redis.pcall('INFO', 'server'))
  local _, at = string.find(told, 'run_id:', 1, true)
  return at and string.sub(told, at + 1, at + 40) or ''
end

-- The run whose attempt must say whether a tail is lost, since this is another server than the one
-- that it was last sure of; nil where there is no doubt. Its own counts before another's.
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

local function lowest()
  local entry = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  return entry and tonumber(string.match(entry[1], '^%d+')) or head() + 1
end

if field('gone') then return {'gone'} end

-- Say an event that needs no fence. With a kind, once for its run.
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

-- Say run.started and raise the fence.
if verb == 'start' then
  local type, data, attempt, abandoned = ARGV[9], ARGV[10], tonumber(ARGV[11]), ARGV[12] ~= ''
  local at = live_on()
  local fence = tonumber(field(run .. ':attempt') or '0')
  -- Somebody may have ended it between its claim and now, and the fence goes with the ending.
  if fence > attempt or field(run .. ':ending') then return {'superseded'} end
  if fence == attempt then
    local before = field(run .. ':started')
    if field(run .. ':closed') then return {'superseded'} end
    if before then return {'ok', before} end
  end
  -- Where the worker before this one died, and Redis too, nobody may be left who knows of a tail
  -- that was lost: its ids must not be given again. One who handed over noted what he knew; of one
  -- who was abandoned nobody knows how far he had come.
  local here = server()
  if attempt > 1 and (abandoned or at ~= known) and (field('server') or here) ~= here then begin(at) end
  local id = say(type, data)
  redis.call('HSET', state, 'server', here, run .. ':attempt', attempt, run .. ':told', attempt,
    run .. ':index', -1, run .. ':started', id)
  redis.call('HDEL', state, run .. ':closed')
  redis.call('DEL', text, thought)
  return {'ok', id}
end

-- Set a fence that was lost, for an attempt that the run's row says is the one. What it holds of
-- the reply is kept at once, for whoever closes it before the whole of that is said again.
if verb == 'fence' then
  local attempt, index, piece = tonumber(ARGV[9]), ARGV[10], ARGV[11]
  live_on()
  local why = refusal(attempt)
  -- Somebody may have ended it since the row was asked, and the fence goes with the ending.
  if why == 'superseded' or field(run .. ':ending') then return {'superseded'} end
  -- A trip that comes late, after what followed it, must not take that back.
  if not why and tonumber(field(run .. ':index')) > tonumber(index) then return {'ok', digits(head())} end
  redis.call('HSET', state, run .. ':attempt', attempt, run .. ':told', UNTOLD .. attempt, run .. ':index', index,
    run .. ':latest', digits(head()), 'server', server())
  redis.call('DEL', thought)
  redis.call('SET', text, piece, 'EX', memory)
  return {'ok', digits(head())}
end

-- Say the next piece of a reply, or (`text.snapshot`) the whole of it again.
if verb == 'speak' then
  local type, data, attempt = ARGV[9], ARGV[10], tonumber(ARGV[11])
  local index, piece, where, beginning = tonumber(ARGV[12]), ARGV[13], ARGV[14], ARGV[15]
  -- Where the conversation was deleted, and Redis emptied since, no life begins any more.
  if not field(run .. ':attempt') then return {'missing'} end
  live_on()
  local why = refusal(attempt)
  if why then return {why} end
  local last = tonumber(field(run .. ':index'))
  if index > last + 1 and where ~= 'whole' then return {'gap'} end
  -- None of this attempt's words is lost, but others' may be: they stand in the row.
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

-- What an attempt and the row know of must be here: where it is, this server is trusted.
if verb == 'confirm' then
  if not field(run .. ':attempt') then return {'ok'} end
  live_on()
  if not refusal(tonumber(ARGV[9])) then redis.call('HSET', state, 'server', server()) end
  return {'ok'}
end

-- Let nobody add to a run's reply any more. Gives what it holds, and whether that is known: an
-- attempt that has not started here leaves what the one before it said. Where there is doubt,
-- it is left to the attempt, or, if that is no more, a new life begins with what is left.
if verb == 'close' then
  local attempt, doubt = tonumber(ARGV[9]), ARGV[10]
  live_on()
  local fence = tonumber(field(run .. ':attempt') or '-1')
  if fence > attempt then return {'superseded'} end
  -- Who closed a fence that was lost read nothing here, and nor does whoever comes after him.
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

-- Say a run's ending, once. The text said is the text stored: where they differ, or where it is
-- an earlier attempt's, it is said again, as a whole, after the start that its attempt never said.
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

-- What the channel is at this moment, for a snapshot.
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

-- Events after a cursor: up to so many, of up to so many bytes together, but one at least. They are
-- taken from the stream a few at a time, so that a page of long ones is never here as a whole.
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

-- A page of events after a cursor, or why the log cannot go on from there.
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

-- A run is settled: its ending stands in the database, with its id. What it said once stays known
-- here for an hour, for whoever read the row before.
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

-- The conversation is deleted: never written again.
if verb == 'delete' then
  clear()
  redis.call('HSET', state, 'gone', 1)
  redis.call('EXPIRE', state, memory)
  redis.call('PUBLISH', channel, '')
  return {'ok'}
end

return redis.error_reply('no such verb: ' .. verb)
