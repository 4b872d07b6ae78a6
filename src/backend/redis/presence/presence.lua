#!lua flags=allow-oom
-- Writes or removes the entry of a node in the hash of a host. Publishes the change if the host came online or went
-- offline.
--
-- KEYS 1  {<host>}:presence
-- ARGV 1  incarnation of the node, <node>.<number>  2  `has`, `none`, or `dead`  3  channel  4  host
-- Returns {1 if the host is online and 0 otherwise, version of this status, 1 if the status changed and 0 otherwise}.
local function nodes()
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'n:' then found[#found + 1] = field end
  end
  return found
end
local before = nodes()
if ARGV[2] == 'dead' then
  redis.call('HDEL', KEYS[1], 'n:' .. ARGV[1])
else
  -- A report from a node replaces the entries of all incarnations of the node.
  if ARGV[2] == 'has' then redis.call('HSET', KEYS[1], 'n:' .. ARGV[1], 1) end
  local node = 'n:' .. string.match(ARGV[1], '^[^.]*')
  for _, field in ipairs(before) do
    local is_his = string.match(field, '^[^.]*') == node
    if is_his and not (ARGV[2] == 'has' and field == 'n:' .. ARGV[1]) then redis.call('HDEL', KEYS[1], field) end
  end
end
local was, is = #before > 0 and 1 or 0, #nodes() > 0 and 1 or 0
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if was ~= is then
  -- The version is based on the clock, so that it increases even if the server has lost the previous version.
  local time = redis.call('TIME')
  version = math.max(version + 1, time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version))
  -- The hash of an offline host expires. Its lifetime is longer than the time that an event can be in flight.
  if is == 0 then redis.call('EXPIRE', KEYS[1], 3600) else redis.call('PERSIST', KEYS[1]) end
  redis.call('PUBLISH', ARGV[3], string.format('S%s %d %.0f', ARGV[4], is, version))
end
return { is, version, was ~= is and 1 or 0 }
