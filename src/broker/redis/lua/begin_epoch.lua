#!lua flags=allow-oom
-- Begins another epoch of a partition, in which every room's next number jumps.
--
-- KEYS 1  {k}:life
-- ARGV 1  random
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'mark', string.format('%x.%s', time[1] * 1000000 + time[2], ARGV[1]))
return 1
