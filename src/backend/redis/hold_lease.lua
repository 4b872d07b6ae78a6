#!lua flags=allow-oom
-- Acquires a lease, or renews it for its holder. A lease with more than the full duration left was written before the
-- server's clock was set back. Such a lease is invalid and can be acquired by any node.
--
-- KEYS 1  the lease
-- ARGV 1  holder  2  duration in ms
-- Returns 1 if the caller holds the lease after the call, and 0 otherwise.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left <= tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
