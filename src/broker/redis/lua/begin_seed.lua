-- Gives out the right to seed a room that is not there.
--
-- KEYS 1  pt:{k}:room:<name>  2  pt:{k}:seed:<name>
-- ARGV 1  ticket  2  its life in ms
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
