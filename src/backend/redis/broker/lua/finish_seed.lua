-- Creates a room if the ticket is valid and the room does not exist.
--
-- KEYS 1  {k}:room:<name>  2  {k}:seed:<name>  3  {k}:ids:<name>  4  {k}:idle
-- ARGV 1  ticket  2  chatroom  3  host  4  state  5  version  6  seq  7  epoch
--      8  time at which the newest message was accepted, in ms  9  room  10… two per id: seq, side:id
-- Returns 1 if the room was created, and 0 otherwise.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'host', ARGV[3], 'state', ARGV[4], 'sv', ARGV[5], 'seq', ARGV[6], 'archived',
  ARGV[6], 'life', ARGV[7], 'at', ARGV[8])
for i = 10, #ARGV, 2 do redis.call('ZADD', KEYS[3], ARGV[i], ARGV[i + 1]) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[4], string.format('%.0f', time[1] * 1000), ARGV[9])
return 1
