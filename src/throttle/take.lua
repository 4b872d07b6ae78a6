-- Takes one out of a bucket that fills steadily, if there is one. The key is the instant at which the bucket is full again, in
-- µs since 1970, and lives that long.
--
-- KEYS 1  limit:<kind>:<who>
-- ARGV 1  how many a full bucket holds  2  how long one takes to come back, in µs  3  now, or '' for this server's clock
-- Returns whether there was one, and in how many µs there will be the next.
local burst, interval, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local kept = tonumber(redis.call('GET', KEYS[1]) or now)
-- A clock that was put back, or a new master's, would have an empty bucket stay empty.
local full_at = math.max(now, math.min(kept, now + burst * interval))
local passes = full_at - (burst - 1) * interval <= now
if passes then full_at = full_at + interval end
if full_at ~= kept and full_at > now then
  -- %.0f: a number of this size would be written with an exponent, and rounded.
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', string.format('%.0f', math.ceil((full_at - now) / 1000)))
end
return {passes and 1 or 0, math.max(0, full_at - (burst - 1) * interval - now)}
