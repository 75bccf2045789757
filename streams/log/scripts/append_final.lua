-- append_final: append a run's final event, once. The log's text must then equal the stored text. If
-- it differs, or is an earlier attempt's, a text.snapshot with the stored text comes before. If the
-- attempt never appended its run.started, that comes first.
local type, data, attempt, stored = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local snapshot_type, before_index, after_index = ARGV[12], ARGV[13], ARGV[14]
local start_type, start = ARGV[15], ARGV[16]

ensure_epoch()
local before = field(run .. ':final')
if before then return {'ok', before} end
local open = unverified_run()
if open and open ~= run then return {'unverified'} end
local text_attempt, unpublished = field(run .. ':text_attempt'), field(run .. ':unpublished')
if (redis.call('GET', text) or '') ~= stored or (stored ~= '' and (text_attempt ~= attempt or unpublished)) then
  local index = text_attempt == attempt and tonumber(field(run .. ':index')) + 1 or 0
  if text_attempt and text_attempt ~= attempt then append_event(start_type, start) end
  append_event(snapshot_type, before_index .. digits(index) .. after_index)
end
local id = append_event(type, data)
redis.call('HSET', state, run .. ':final', id, run .. ':sealed', 'known', run .. ':attempt', attempt)
redis.call('SET', text, stored, 'EX', events_ttl)
return {'ok', id}
