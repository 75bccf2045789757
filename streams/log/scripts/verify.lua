-- verify: the caller's min_head covers the attempt's own events and the recorded head of the row. If
-- the log reaches that far, this Redis process counts as verified.
local attempt = tonumber(ARGV[8])

if not field(run .. ':attempt') then return {'ok'} end
ensure_epoch()
if not refusal(attempt) then redis.call('HSET', state, 'server', server_id()) end
return {'ok'}
