-- A node has sockets of a host, or no longer has; says so to all nodes if the host came online or went offline by it.
--
-- KEYS 1  pt:{<host>}:presence
-- ARGV 1  node  2  1 has, 0 has none  3  channel  4  host
-- Returns whether the host is online now.
local function online()
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'n:' then return 1 end
  end
  return 0
end
local before = online()
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'n:' .. ARGV[1], 1)
else
  redis.call('HDEL', KEYS[1], 'n:' .. ARGV[1])
end
local after = online()
if before ~= after then
  local version = redis.call('HINCRBY', KEYS[1], 'version', 1)
  -- A host who is away for good is forgotten; his version outlives every event on its way.
  if after == 0 then redis.call('EXPIRE', KEYS[1], 86400) else redis.call('PERSIST', KEYS[1]) end
  redis.call('PUBLISH', ARGV[3], 'S' .. ARGV[4] .. ' ' .. after .. ' ' .. version)
end
return after
