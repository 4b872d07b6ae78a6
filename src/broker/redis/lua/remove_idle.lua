#!lua flags=allow-oom
-- Removes rooms that were not used for a while, have no connections, and are completely in SQL.
--
-- KEYS 1  {k}:idle
-- ARGV 1  used before, in ms of age  2  at most so many  3… nodes that are alive
-- Returns how many were looked at, and how many went.
local p = string.sub(KEYS[1], 1, -5)
local time = redis.call('TIME')
local now = time[1] * 1000
local alive, looked, gone = {}, 0, 0
for i = 3, #ARGV do alive[ARGV[i]] = true end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])) do
  looked = looked + 1
  local room = p .. 'room:' .. name
  local hash, busy, seq, archived, state = redis.call('HGETALL', room), false, 0, 0, nil
  for i = 1, #hash, 2 do
    local node = string.match(hash[i], '^[gha]:(.+)$')
    if node and alive[node] then busy = true end
    if hash[i] == 'seq' then seq = tonumber(hash[i + 1]) end
    if hash[i] == 'archived' then archived = tonumber(hash[i + 1]) end
    if hash[i] == 'state' then state = hash[i + 1] end
  end
  if state == 'deleted' or state == nil then
    redis.call('ZREM', KEYS[1], name)
  elseif busy or archived < seq then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), name)
  else
    redis.call('DEL', room, p .. 'log:' .. name, p .. 'ids:' .. name)
    redis.call('ZREM', KEYS[1], name)
    gone = gone + 1
  end
end
return { looked, gone }
