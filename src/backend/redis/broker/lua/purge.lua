#!lua flags=allow-oom
-- Removes messages from a room's log after the retention job has deleted them from the database. A closed room whose
-- messages are all archived has a log only if it has dead letters.
--
-- KEYS 1  {k}:room:<name>  2  {k}:log:<name>
-- ARGV 1  highest deleted sequence number; every message up to it is archived or will never be in the database
-- Returns the number of removed entries.
local through = tonumber(ARGV[1])
local bytes = tonumber(redis.call('HGET', KEYS[1], 'bytes') or 0)
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', string.format('%.0f', through))) do
  bytes = bytes - #entry[2][2]
end
local gone = redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f', through + 1))
if redis.call('XLEN', KEYS[2]) == 0 then redis.call('DEL', KEYS[2]) end
local hash = redis.call('HMGET', KEYS[1], 'seq', 'archived', 'dead')
if hash[1] then
  if hash[3] and tonumber(hash[3]) <= through then redis.call('HDEL', KEYS[1], 'dead') end
  local archived = math.max(tonumber(hash[2]), math.min(through, tonumber(hash[1])))
  redis.call('HSET', KEYS[1], 'archived', string.format('%.0f', archived), 'bytes', string.format('%.0f', math.max(0, bytes)))
end
return gone
