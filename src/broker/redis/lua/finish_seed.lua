-- Makes a room, if the ticket still holds and nobody else has made it.
--
-- KEYS 1  pt:{k}:room:<name>  2  pt:{k}:seed:<name>  3  pt:{k}:ids:<name>  4  pt:{k}:idle
-- ARGV 1  ticket  2  chatroom  3  host  4  state  5  version  6  seq  7  life  8  last accepted at, ms  9  room
--      10… two an id: seq, side:id
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'host', ARGV[3], 'state', ARGV[4], 'sv', ARGV[5], 'seq', ARGV[6], 'archived',
  ARGV[6], 'life', ARGV[7], 'at', ARGV[8])
for i = 10, #ARGV, 2 do redis.call('ZADD', KEYS[3], ARGV[i], ARGV[i + 1]) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[4], string.format('%.0f', time[1] * 1000), ARGV[9])
return 1
