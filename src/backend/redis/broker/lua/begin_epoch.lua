#!lua flags=allow-oom
-- Begins a new epoch of a partition. In a new epoch, the next sequence number of every room skips ahead.
--
-- KEYS 1  {k}:life
-- ARGV 1  random suffix
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'mark', string.format('%x.%s', time[1] * 1000000 + time[2], ARGV[1]))
return 1
