-- Takes a token from a bucket that refills steadily, if the bucket has a token. The key stores the instant at which the
-- bucket will be full, in µs since 1970. The key expires at this instant.
--
-- KEYS 1  limit:<kind>:<who>
-- ARGV 1  capacity of the bucket  2  time in which the bucket gains one token, in µs
--      3  current time in µs, or '' to use this server's clock
-- Returns {1 if a token was taken and 0 otherwise, time until the next token is available, in µs}.
local burst, interval, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local kept = tonumber(redis.call('GET', KEYS[1]) or now)
-- Without the upper bound, an empty bucket would stay empty for too long after the clock was set back or on a new
-- master.
local full_at = math.max(now, math.min(kept, now + burst * interval))
local passes = full_at - (burst - 1) * interval <= now
if passes then full_at = full_at + interval end
if full_at ~= kept and full_at > now then
  -- The default format writes a number of this size in rounded form with an exponent, so `%.0f` is used.
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', string.format('%.0f', math.ceil((full_at - now) / 1000)))
end
return {passes and 1 or 0, math.max(0, full_at - (burst - 1) * interval - now)}
