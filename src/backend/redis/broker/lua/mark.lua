#!lua flags=allow-oom
-- Writes a value, so that the caller can wait until replicas have this write.
--
-- KEYS 1  {k}:mark
local time = redis.call('TIME')
redis.call('SET', KEYS[1], time[1])
return 1
