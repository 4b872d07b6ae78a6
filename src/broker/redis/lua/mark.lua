#!lua flags=allow-oom
-- Writes something, so that replicas can be waited for.
--
-- KEYS 1  pt:{k}:mark
local time = redis.call('TIME')
redis.call('SET', KEYS[1], time[1])
return 1
