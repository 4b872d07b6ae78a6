#!lua flags=allow-oom
-- Releases a lease if the caller holds it.
--
-- KEYS 1  the lease
-- ARGV 1  holder
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
