#!lua flags=allow-oom
-- Begins the epoch of a partition, unless the server knows one.
--
-- KEYS 1  {k}:life: hash of `mark` (the epoch), `tick` (counts calls of accept.lua), `queued` (bytes in the archive queue),
--         `suspect` (the store that seems to have gone back in time)
-- Returns 1 for a new epoch.
local time = redis.call('TIME')
return redis.call('HSETNX', KEYS[1], 'mark', string.format('%x', time[1] * 1000000 + time[2]))
