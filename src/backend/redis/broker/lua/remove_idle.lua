#!lua flags=allow-oom
-- Removes unused rooms that have no connections and whose messages are all in the database. While memory is low, also
-- deletes the logs of unused rooms that have connections, because the database has their messages.
--
-- KEYS 1  {k}:idle
-- ARGV 1  minimum time without use in ms  2  minimum time without use in ms while memory is low
--      3  percentage of used memory above which memory is low  4  number of rooms to examine  5… live nodes
-- Returns {number of examined rooms, number of removed rooms, 1 if memory is low and 0 otherwise}.
local p = string.sub(KEYS[1], 1, -5)
local time = redis.call('TIME')
local now = time[1] * 1000
local memory = redis.call('INFO', 'memory')
local function figure(name) return tonumber(string.match(memory, '\n' .. name .. ':(%d+)') or 0) end
local most = figure('maxmemory')
if most == 0 then most = figure('total_system_memory') end
local is_short = most > 0 and figure('used_memory') * 100 > most * ARGV[3]

local alive, looked, gone = {}, 0, 0
for i = 5, #ARGV do alive[ARGV[i]] = true end
local before = now - (is_short and ARGV[2] or ARGV[1])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, ARGV[4])) do
  looked = looked + 1
  local room, log = p .. 'room:' .. name, p .. 'log:' .. name
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
    if is_short and archived >= seq then
      redis.call('DEL', log)
      redis.call('HSET', room, 'bytes', 0)
    end
  else
    redis.call('DEL', room, log, p .. 'ids:' .. name)
    redis.call('ZREM', KEYS[1], name)
    gone = gone + 1
  end
end
return { looked, gone, is_short and 1 or 0 }
