#!lua flags=allow-oom
-- Takes a lease, or renews it for its holder. A lease that would outlive its duration was set before the server's clock was
-- put back: it is not valid.
--
-- KEYS 1  the lease
-- ARGV 1  holder  2  duration in ms
-- Returns 1 if the lease is held by the caller.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left <= tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
