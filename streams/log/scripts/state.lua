-- state: the state of the channel at this moment, with the text and reasoning of each unsettled run.
-- It changes nothing. `lost` if the log holds no epoch, or its newest events were lost.
if head() == 0 or head() < min_head then return {'lost'} end
local fields = redis.call('HGETALL', state)
local runs = {}
for i = 1, #fields, 2 do
  local unsettled = string.match(fields[i], '^(.+):attempt$')
  if unsettled then
    local texts = redis.call('MGET', text_keys(unsettled))
    runs[#runs + 1] = {unsettled, texts[1] or '', texts[2] or ''}
  end
end
return {'ok', fields, runs}
