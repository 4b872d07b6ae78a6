-- Sets how many guests and hosts a node has in a room, in absolute numbers, and tells how the room is.
--
-- KEYS 1  pt:{k}:room:<name>   2  pt:{k}:idle   3  pt:{k}:log:<name>
-- ARGV 1  node; empty to ask only   2  guests   3  hosts   4  room   5  how many of the newest messages are wanted
--      6… nodes that are known to be dead
-- Returns false without such a room, else {log, state, version, seq, archived, chatroom, host, node, guests, hosts, …};
-- the log is one string of `<seq> <accepted at> <length>\n<frame>`, newest first: a reply of many parts costs its reader more.
local hash = redis.call('HMGET', KEYS[1], 'state', 'sv', 'seq', 'archived', 'id', 'host')
if not hash[1] then return false end
if ARGV[1] ~= '' and hash[1] ~= 'deleted' then
  for at, kind in ipairs({ 'g:', 'h:' }) do
    if tonumber(ARGV[at + 1]) > 0 then
      redis.call('HSET', KEYS[1], kind .. ARGV[1], ARGV[at + 1])
    else
      redis.call('HDEL', KEYS[1], kind .. ARGV[1])
    end
    for dead = 6, #ARGV do redis.call('HDEL', KEYS[1], kind .. ARGV[dead]) end
  end
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[2], string.format('%.0f', time[1] * 1000), ARGV[4])
end
local log = {}
if tonumber(ARGV[5]) > 0 then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', ARGV[5])) do
    local frame = entry[2][2]
    log[#log + 1] = string.sub(entry[1], 1, -3) .. ' ' .. entry[2][4] .. ' ' .. #frame .. '\n'
    log[#log + 1] = frame
  end
end
table.insert(hash, 1, table.concat(log))
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local kind, node = string.match(all[i], '^([gh]):(.+)$')
  if kind then
    hash[#hash + 1] = node
    hash[#hash + 1] = kind == 'g' and tonumber(all[i + 1]) or 0
    hash[#hash + 1] = kind == 'h' and tonumber(all[i + 1]) or 0
  end
end
return hash
