-- seal: seal a run's reply, so that no attempt can append to it. Returns whether the log knows the
-- reply, its text and reasoning so far, and the head. An attempt that has not started leaves the
-- text of the one before it.
local attempt = tonumber(ARGV[8])
local on_unverified = ARGV[9] -- `ignore`, `raise`, or `new_epoch` with the text that is left

ensure_epoch()
local fence = tonumber(field(run .. ':attempt') or '-1')
if fence > attempt then return {'superseded'} end
-- A seal without a fence may have returned nothing. A repeated seal must return the same.
local known = (fence >= 0 and field(run .. ':sealed') ~= 'unknown') or field(run .. ':queued')
local open = on_unverified ~= 'ignore' and unverified_run()
if open then
  if on_unverified == 'raise' or open ~= run then return {'unverified'} end
  local kept_text, kept_reasoning = redis.call('GET', text), redis.call('GET', reasoning)
  begin_epoch(head())
  if kept_text then redis.call('SET', text, kept_text, 'EX', state_ttl) end
  if kept_reasoning then redis.call('SET', reasoning, kept_reasoning, 'EX', state_ttl) end
end
redis.call('HSET', state, run .. ':attempt', attempt, run .. ':sealed', known and 'known' or 'unknown')
return {'ok', known and 1 or 0, redis.call('GET', text) or '', redis.call('GET', reasoning) or '', digits(head())}
