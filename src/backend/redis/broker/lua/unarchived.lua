#!lua flags=allow-oom
-- Returns rooms of a host for which the database lacks messages. Removes all other examined rooms from the host's set.
--
-- KEYS 1  {k}:fresh:<host>
-- ARGV 1  prefix of the keys of rooms  2  maximum number of rooms to examine
local rooms = {}
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  local hash = redis.call('HMGET', ARGV[1] .. name, 'state', 'seq', 'archived')
  if hash[1] and hash[1] ~= 'deleted' and tonumber(hash[2]) > tonumber(hash[3]) then
    rooms[#rooms + 1] = name
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return rooms
