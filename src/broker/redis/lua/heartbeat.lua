#!lua flags=allow-oom
-- Renews a node's lease and tells who is alive.
--
-- KEYS 1  pt:nodes
-- ARGV 1  node; empty to ask only   2  the lease's life in ms
-- Returns {now, node…}: now in ms of this server's clock.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1]) end
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now), '+inf')
table.insert(alive, 1, now)
return alive
