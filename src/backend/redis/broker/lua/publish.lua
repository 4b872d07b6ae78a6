#!lua flags=allow-oom
-- Makes an accepted batch visible to readers and publishes it. Must be called after replicas have the batch.
--
-- KEYS 1  {k}:queue
-- ARGV 1  channel of the bus  2  the publication, or empty to publish nothing
--      3… two per room: room, number of the newest message that replicas have
local p = string.sub(KEYS[1], 1, -6)
for i = 3, #ARGV, 2 do
  local room = p .. 'room:' .. ARGV[i]
  local pub = redis.call('HGET', room, 'pub')
  if pub and tonumber(pub) < tonumber(ARGV[i + 1]) then redis.call('HSET', room, 'pub', ARGV[i + 1]) end
end
if ARGV[2] ~= '' then redis.call('SPUBLISH', ARGV[1], ARGV[2]) end
return 1
