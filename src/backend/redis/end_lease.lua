#!lua flags=allow-oom
-- Shortens the remaining time of the given leases to a maximum, and removes those that have expired.
--
-- KEYS 1  nodes
-- ARGV 1  maximum remaining time in ms; 0 removes the leases  2… incarnations
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 2, #ARGV do
  local deadline = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or 0)
  if deadline <= now or tonumber(ARGV[1]) <= 0 then
    redis.call('ZREM', KEYS[1], ARGV[at])
  elseif deadline > now + ARGV[1] then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[1]), ARGV[at])
  end
end
