#!lua flags=allow-oom
-- Replaces a room that never had a message with a tombstone. Changes nothing if the room has a message or a connection.
--
-- KEYS 1  {k}:room:<name>  2  {k}:log:<name>  3  {k}:ids:<name>  4  {k}:seed:<name>  5  {k}:idle
-- ARGV 1  version of the deletion  2  room  3  lifetime of the tombstone in s  4… live nodes
-- Returns 1 if the room has a tombstone after the call, and 0 otherwise.
local hash, alive, state, seq = redis.call('HGETALL', KEYS[1]), {}, nil, 0
for i = 4, #ARGV do alive[ARGV[i]] = true end
for i = 1, #hash, 2 do
  local node = string.match(hash[i], '^[gha]:(.+)$')
  if node and alive[node] then return 0 end
  if hash[i] == 'seq' then seq = tonumber(hash[i + 1]) end
  if hash[i] == 'state' then state = hash[i + 1] end
end
if state == 'deleted' then return 1 end
if seq > 0 then return 0 end
-- A node that is seeding the room read the database before this deletion. Deleting its ticket forces the node to read
-- the database again.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('HSET', KEYS[1], 'state', 'deleted', 'sv', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZREM', KEYS[5], ARGV[2])
return 1
