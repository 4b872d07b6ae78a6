#!lua flags=allow-oom
-- Replaces the numbers of a node's connections in a room, and returns the state of the room.
--
-- KEYS 1  {k}:room:<name>   2  {k}:idle
-- ARGV 1  node, or empty to read only  2  guests  3  present hosts  4  hosts that are away  5  room
--      6… nodes known to be dead
-- Returns false if this server does not have the room. Otherwise returns {state, version, seq, archived, chatroom,
-- host, node, guests, hosts, away, …} with four elements per node.
local hash = redis.call('HMGET', KEYS[1], 'state', 'sv', 'seq', 'archived', 'id', 'host')
if not hash[1] then return false end
if ARGV[1] ~= '' and hash[1] ~= 'deleted' then
  for at, kind in ipairs({ 'g:', 'h:', 'a:' }) do
    if tonumber(ARGV[at + 1]) > 0 then
      redis.call('HSET', KEYS[1], kind .. ARGV[1], ARGV[at + 1])
    else
      redis.call('HDEL', KEYS[1], kind .. ARGV[1])
    end
    for dead = 6, #ARGV do redis.call('HDEL', KEYS[1], kind .. ARGV[dead]) end
  end
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[2], string.format('%.0f', time[1] * 1000), ARGV[5])
end
-- Messages that wait for replicas are hidden. After a failover, this server is the promoted replica, so it has all
-- remaining messages and none of them is hidden.
local hidden = redis.call('HMGET', KEYS[1], 'pub', 'life')
if hidden[1] and hash[3] and tonumber(hidden[1]) < tonumber(hash[3]) then
  local mark = redis.call('HGET', string.sub(KEYS[2], 1, -5) .. 'life', 'mark') or ''
  local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') .. '.' .. mark
  if life == hidden[2] then hash[3] = hidden[1] end
end
local all = redis.call('HGETALL', KEYS[1])
-- The script stores the nodes with guests as a list in `guests`, and the nodes with present hosts as a list in `hosts`.
-- accept.lua can therefore read two fields instead of all fields.
local nodes, known = { g = {}, h = {}, a = {} }, {}
for i = 1, #all, 2 do
  local kind, node = string.match(all[i], '^([gha]):(.+)$')
  if kind then
    nodes[kind][#nodes[kind] + 1] = node
    hash[#hash + 1] = node
    hash[#hash + 1] = kind == 'g' and tonumber(all[i + 1]) or 0
    hash[#hash + 1] = kind == 'h' and tonumber(all[i + 1]) or 0
    hash[#hash + 1] = kind == 'a' and tonumber(all[i + 1]) or 0
  else
    known[all[i]] = all[i + 1]
  end
end
if ARGV[1] ~= '' and hash[1] ~= 'deleted' then
  local guests, hosts = table.concat(nodes.g, ','), table.concat(nodes.h, ',')
  if guests ~= (known.guests or '') or hosts ~= (known.hosts or '') then
    redis.call('HSET', KEYS[1], 'guests', guests, 'hosts', hosts)
  end
end
return hash
