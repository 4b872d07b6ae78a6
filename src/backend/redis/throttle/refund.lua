-- Puts a token back into a bucket that take.lua has written. If the key is missing, the bucket is already full.
--
-- KEYS 1  limit:<kind>:<who>
-- ARGV 1  time in which the bucket gains one token, in µs  2  current time in µs, or '' to use this server's clock
local interval, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = tonumber(redis.call('GET', KEYS[1]) or 0)
if kept == 0 then return 0 end
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local full_at = kept - interval
if full_at <= now then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', string.format('%.0f', math.ceil((full_at - now) / 1000)))
return 1
