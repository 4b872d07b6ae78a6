#!lua flags=allow-oom
-- Writes a value. The caller then waits until replicas have this write. Such replicas also have all earlier writes.
--
-- KEYS 1  {k}:mark
local time = redis.call('TIME')
redis.call('SET', KEYS[1], time[1])
return 1
