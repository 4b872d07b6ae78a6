#!lua flags=allow-oom
-- Replaces the numbers of a node's connections in a room, and returns the state of the room.
--
-- KEYS 1  {k}:room:<name>   2  {k}:idle
-- ARGV 1  node, or empty to read only  2  guests  3  present hosts  4  hosts that are away  5  room
--      6… nodes known to be dead
-- Returns false if this server does not have the room, and otherwise
-- {state, version, seq, archived, chatroom, host, node, guests, hosts, away, …}.
local all, room = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do room[all[i]] = all[i + 1] end
if not room.state then return false end
local answer = { room.state, room.sv, room.seq, room.archived, room.id, room.host }
if room.state == 'deleted' then return answer end

-- Messages that wait for replicas are not visible. On a promoted replica, these messages are visible, because the
-- replica has them.
if room.pub and tonumber(room.pub) < tonumber(room.seq) then
  local mark = redis.call('HGET', string.sub(KEYS[2], 1, -5) .. 'life', 'mark') or ''
  local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') .. '.' .. mark
  if life == room.life then answer[3] = room.pub end
end

local written, removed, is_empty = {}, {}, true
local function set(field, value)
  if room[field] == value then return end
  if not room[field] then
    all[#all + 1] = field
    all[#all + 1] = value
  end
  room[field] = value
  written[#written + 1] = field
  written[#written + 1] = value
end
local function remove(field)
  if room[field] then
    room[field] = nil
    removed[#removed + 1] = field
  end
end
if ARGV[1] ~= '' then
  for at, kind in ipairs({ 'g:', 'h:', 'a:' }) do
    if tonumber(ARGV[at + 1]) > 0 then
      is_empty = false
      set(kind .. ARGV[1], ARGV[at + 1])
    else
      remove(kind .. ARGV[1])
    end
    for dead = 6, #ARGV do remove(kind .. ARGV[dead]) end
  end
end

-- Joins the nodes with guests and the nodes with present hosts into one field each, so that accept.lua need not read
-- all fields.
local nodes = { g = {}, h = {}, a = {} }
for i = 1, #all, 2 do
  local kind, node = string.match(all[i], '^([gha]):(.+)$')
  local count = kind and tonumber(room[all[i]])
  if count then
    nodes[kind][#nodes[kind] + 1] = node
    answer[#answer + 1] = node
    answer[#answer + 1] = kind == 'g' and count or 0
    answer[#answer + 1] = kind == 'h' and count or 0
    answer[#answer + 1] = kind == 'a' and count or 0
  end
end
if ARGV[1] ~= '' then
  room.guests, room.hosts = room.guests or '', room.hosts or ''
  set('guests', table.concat(nodes.g, ','))
  set('hosts', table.concat(nodes.h, ','))
  if written[1] then redis.call('HSET', KEYS[1], unpack(written)) end
  if removed[1] then redis.call('HDEL', KEYS[1], unpack(removed)) end
  -- A room with connections is never removed as idle. Its idle time begins when the last connection leaves.
  if is_empty then
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[2], string.format('%.0f', time[1] * 1000), ARGV[5])
  end
end
return answer
