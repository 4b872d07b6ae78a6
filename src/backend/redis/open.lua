#!lua flags=allow-oom
-- Begins an epoch of a partition. Changes nothing if the partition has an epoch on this server.
--
-- KEYS 1  {k}:life, a hash with four fields: `mark` (part of the epoch), `tick` (number of accept.lua calls), `queued`
--         (bytes in the archive queue), `suspect` (the store that appears to have been restored to an earlier state)
-- Returns 1 if an epoch began, and 0 otherwise.
local time = redis.call('TIME')
return redis.call('HSETNX', KEYS[1], 'mark', string.format('%x', time[1] * 1000000 + time[2]))
