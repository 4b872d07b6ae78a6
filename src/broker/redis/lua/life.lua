-- Tells which life of its this server is in, as accept.lua writes it.
--
-- KEYS 1  pt:{k}:queue
local mark_key = string.sub(KEYS[1], 1, -6) .. 'life'
local mark = redis.call('GET', mark_key)
if not mark then
  local time = redis.call('TIME')
  mark = string.format('%x', time[1] * 1000000 + time[2])
  redis.call('SET', mark_key, mark)
end
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') .. '.' .. mark
