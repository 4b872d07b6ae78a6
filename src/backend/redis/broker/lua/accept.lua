-- Assigns sequence numbers to a batch of messages of one partition, stores the batch and publishes it, in one atomic
-- step.
--
-- KEYS 1  {k}:queue; the names of the partition's other keys are built from its prefix
-- ARGV 1  deadline by this server's clock, in ms; after it, the call has no effect
--      2  maximum number of entries in the queue
--      3  maximum total size of the frames in the queue, in bytes
--      4  highest tick of this partition that the node has received; the tick counts the calls of this script
--      5  channel of the bus; if empty, the caller publishes the batch after replicas have it
--      6  id of the calling node
--      7  one line `<index in the batch, from 0> <traceparent>` per traced message; usually empty
--      8  1 if slots can move between servers (Redis Cluster), else 0
--      9… four per message: room, side (g or h), id, frame up to the position of its sequence number
-- Returns {now, tick} and then, per message, its sequence number | {'known', seq, frame or false} | {'closed'} |
-- {'deleted'} | {'unseeded'} | {'full'}. If ARGV 5 is empty, the last element is the publication. It also contains
-- messages that are `known`, because an earlier call may have been abandoned before its batch was published. Returns
-- only {now} if the call arrives too late, and {now, false} if this server has no epoch of the partition.
local call, try, format = redis.call, redis.pcall, string.format
local p = string.sub(KEYS[1], 1, -6)
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[1]) then return { now } end

-- If the partition has no epoch, a node must verify the owner of this Redis and then begin an epoch (open.lua).
local held = call('HMGET', p .. 'life', 'mark', 'tick', 'queued')
local mark, tick = held[1], tonumber(held[2] or 0)
if not mark then return { now, false } end
-- The tick only increases. If a node has received a higher tick, this server was restored to an earlier state. The
-- sequence numbers that it assigned after that state may be in the database, and clients may have received them.
local went_back = tick < tonumber(ARGV[4])
if went_back then
  tick = tonumber(ARGV[4])
  -- The mark must fit into the database column for epochs: 40 characters of the replication id and at most 24 more.
  mark = format('%x.%x', time[1] * 1000000 + time[2], tick % 65536)
end
tick = tick + 1

-- A new replication id begins a new epoch, because numbers that the previous master assigned may be lost.
-- A plain search costs less than a pattern.
local info = call('INFO', 'replication')
local _, before_id = string.find(info, 'master_replid:', 1, true)
local life = string.sub(info, before_id + 1, before_id + 40) .. '.' .. mark
local free = tonumber(ARGV[2]) - call('XLEN', KEYS[1])
local queued = tonumber(held[3] or 0)
local at, slots_can_move = format('%d', now), ARGV[8] == '1'
local rooms, answers, publication, traces = {}, { now, tick }, {}, {}
for place, parent in string.gmatch(ARGV[7], '(%d+) (%S+)\n') do traces[9 + 4 * place] = parent end

local function publish(name, room, prev, seq, frame, trace)
  if not publication[1] then
    local partition = string.match(p, '{(%d+)}')
    publication[1] = format('A%s %d %s %d 0\n', ARGV[6], now, partition, tick)
  end
  if trace then publication[#publication + 1] = format('T%s %d 0 0 %d\n%s', name, seq, #trace, trace) end
  publication[#publication + 1] = format('M%s %d %d %s %d\n', name, prev, seq, room.host, #frame)
  publication[#publication + 1] = frame
end

local function load(name)
  local hash = call('HMGET', p .. 'room:' .. name, 'state', 'seq', 'archived', 'life', 'at', 'id',
    'host', 'pub', 'guests', 'hosts', 'bytes')
  if not hash[1] then return { stop = 'unseeded', count = 0 } end
  if hash[1] ~= 'open' then return { stop = hash[1], count = 0 } end
  local seq = tonumber(hash[2])
  local room = { seq = seq, first = seq, before = hash[2], count = 0, step = 1, at = tonumber(hash[5]), id = hash[6],
    host = hash[7], pub = hash[8], has_pub = hash[8], others = { h = hash[9] or '', g = hash[10] or '' },
    bytes = tonumber(hash[11] or 0), life = hash[4] }
  -- If all earlier messages are in the database, the next message adds the room to the host's set of unarchived rooms.
  room.is_archived = tonumber(hash[3]) >= room.seq
  -- While a slot is moving, an access to a key that this server lacks raises an error. The error must occur before the
  -- first write, so all keys are accessed here.
  if slots_can_move then call('EXISTS', p .. 'log:' .. name, p .. 'ids:' .. name, p .. 'fresh:' .. hash[7]) end
  -- In a new epoch, the number skips ahead. The step is larger than the number of messages that can have been accepted
  -- since the last known number.
  if hash[4] ~= life then
    room.step = 10000 + 2 * math.max(0, now - room.at)
    -- The messages of the previous epoch that still exist were on replicas, so all of them are visible.
    room.pub = false
  end
  return room
end

-- Redis does not roll back a failed script. All commands that can fail must therefore precede the first write.
if slots_can_move then call('EXISTS', p .. 'idle') end
for i = 9, #ARGV, 4 do
  if not rooms[ARGV[i]] then rooms[ARGV[i]] = load(ARGV[i]) end
end

for i = 9, #ARGV, 4 do
  local name, side, id, head = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local room = rooms[name]
  local answer
  if room.stop then
    answer = { room.stop }
  else
    local ids, member, seq = p .. 'ids:' .. name, side .. ':' .. id, format('%d', room.seq + room.step)
    local is_full, known = free <= 0 or queued + #head > tonumber(ARGV[3]), false
    if is_full or call('ZADD', ids, 'NX', seq, member) == 0 then known = call('ZSCORE', ids, member) end
    if known then
      local entry = call('XRANGE', p .. 'log:' .. name, known .. '-0', known .. '-0')
      answer = { 'known', tonumber(known), entry[1] and entry[1][2][2] or false }
      if ARGV[5] == '' and entry[1] then
        publish(name, room, known - 1, known, entry[1][2][2])
        -- A call that publishes must also write, because the caller's WAIT covers only writes.
        call('ZADD', p .. 'idle', at, name)
      end
    elseif is_full then
      room.stop = 'full'
      answer = { 'full' }
    else
      local prev = room.seq
      room.seq = prev + room.step
      room.step = 1
      room.count = room.count + 1
      free = free - 1
      local frame = head .. seq .. '}'
      room.bytes = room.bytes + #frame
      queued = queued + #frame
      -- A server that denies XADD to this user must not keep the id. If the client repeated the message, it would
      -- otherwise count as known, although it is not stored.
      local logged = try('XADD', p .. 'log:' .. name, seq .. '-0', 'f', frame, 'a', at)
      if logged.err then
        call('ZREM', ids, member)
        return logged
      end
      -- The entry lists the nodes on which the recipient's side has connections in the room.
      local trace = traces[i]
      if trace then
        call('XADD', KEYS[1], '*', 'n', name, 'i', room.id, 'l', life, 'a', at, 'f', frame, 'o', room.others[side],
          't', trace)
      else
        call('XADD', KEYS[1], '*', 'n', name, 'i', room.id, 'l', life, 'a', at, 'f', frame, 'o', room.others[side])
      end
      publish(name, room, prev, room.seq, frame, trace)
      answer = room.seq
    end
  end
  answers[#answers + 1] = answer
end

for name, room in pairs(rooms) do
  if room.count > 0 then
    local seq, bytes = format('%d', room.seq), format('%d', room.bytes)
    if room.life == life then
      call('HSET', p .. 'room:' .. name, 'seq', seq, 'at', at, 'bytes', bytes)
    else
      call('HSET', p .. 'room:' .. name, 'seq', seq, 'at', at, 'bytes', bytes, 'life', life)
    end
    -- `pub` is the number of the newest visible message. Messages that wait for replicas are not visible to readers.
    if ARGV[5] ~= '' then
      if room.has_pub then call('HDEL', p .. 'room:' .. name, 'pub') end
    elseif not room.pub then
      call('HSET', p .. 'room:' .. name, 'pub', room.before)
    end
    -- The newest 2,000 ids are kept. They are trimmed once per 64 numbers, because up to 64 more are harmless.
    if room.first % 64 + room.count >= 64 then call('ZREMRANGEBYRANK', p .. 'ids:' .. name, 0, -2001) end
    -- The time of the last use is updated once per 16 s, because rooms count as idle after 30 s or more.
    if math.floor(room.at / 16000) ~= math.floor(now / 16000) then call('ZADD', p .. 'idle', at, name) end
    if room.is_archived then call('ZADD', p .. 'fresh:' .. room.host, at, name) end
  end
end
call('HSET', p .. 'life', 'tick', format('%d', tick), 'queued', format('%d', queued))
if went_back then call('HSET', p .. 'life', 'mark', mark, 'suspect', 'redis') end
if ARGV[5] == '' then
  answers[#answers + 1] = table.concat(publication)
elseif #publication > 0 then
  call('SPUBLISH', ARGV[5], table.concat(publication))
end
return answers
