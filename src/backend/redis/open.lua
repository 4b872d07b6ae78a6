#!lua flags=allow-oom
-- Begins an epoch of a partition, unless this server already has one.
--
-- KEYS 1  {k}:life: hash of `mark` (the epoch), `tick` (number of calls of accept.lua), `queued` (bytes in the archive
--         queue), `suspect` (the store that appears to be in an earlier state)
-- Returns 1 if an epoch began.
local time = redis.call('TIME')
return redis.call('HSETNX', KEYS[1], 'mark', string.format('%x', time[1] * 1000000 + time[2]))
