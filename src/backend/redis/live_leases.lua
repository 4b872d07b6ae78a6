-- Counts the unexpired leases. A deadline that is further ahead than the duration of a lease does not count, because a
-- server whose clock was ahead wrote it.
--
-- KEYS 1  sorted set of lease deadlines in ms
-- ARGV 1  duration of a lease in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', now), string.format('%.0f', now + ARGV[1]))
