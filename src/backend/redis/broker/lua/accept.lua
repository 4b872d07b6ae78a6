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
--      8… four per message: room, side (g or h), id, frame up to the position of its sequence number
-- Returns {now, tick} and then, per message, {'ok', seq} | {'known', seq, frame or false} | {'closed'} | {'deleted'} |
-- {'unseeded'} | {'full'}. If ARGV 5 is empty, the last element is the publication. It also contains messages that are
-- `known`, because an earlier call may have been abandoned before its batch was published. Returns only {now} if the
-- call arrives too late, and {now, false} if this server has no epoch of the partition.
local p = string.sub(KEYS[1], 1, -6)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[1]) then return { now } end

-- If the partition has no epoch, a node must verify the owner of this Redis and then begin an epoch (open.lua).
local held = redis.call('HMGET', p .. 'life', 'mark', 'tick', 'queued')
local mark, tick = held[1], tonumber(held[2] or 0)
if not mark then return { now, false } end
-- The tick only increases. If a node has received a higher tick, this server was restored to an earlier state. The
-- sequence numbers that it assigned after that state may be in the database, and clients may have received them.
local went_back = tick < tonumber(ARGV[4])
if went_back then
  tick = tonumber(ARGV[4])
  -- The mark must fit into the database column for epochs: 40 characters of the replication id and at most 24 more.
  mark = string.format('%x.%x', time[1] * 1000000 + time[2], tick % 65536)
end
tick = tick + 1

-- A new replication id begins a new epoch, because numbers that the previous master assigned may be lost.
local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') .. '.' .. mark
local free = tonumber(ARGV[2]) - redis.call('XLEN', KEYS[1])
local queued = tonumber(held[3] or 0)
local at = string.format('%.0f', now)
local rooms, answers, publication, traces = {}, { now, tick }, {}, {}
for place, parent in string.gmatch(ARGV[7], '(%d+) (%S+)\n') do traces[8 + 4 * place] = parent end

local function publish(name, room, prev, seq, frame, trace)
  if not publication[1] then
    local partition = string.match(p, '{(%d+)}')
    publication[1] = string.format('A%s %.0f %s %.0f 0\n', ARGV[6], now, partition, tick)
  end
  if trace then publication[#publication + 1] = string.format('T%s %.0f 0 0 %d\n%s', name, seq, #trace, trace) end
  publication[#publication + 1] = string.format('M%s %.0f %.0f %s %d\n', name, prev, seq, room.host, #frame)
  publication[#publication + 1] = frame
end

local function load(name)
  local hash = redis.call('HMGET', p .. 'room:' .. name, 'state', 'seq', 'archived', 'life', 'at', 'id',
    'host', 'pub', 'guests', 'hosts', 'bytes')
  if not hash[1] then return { stop = 'unseeded' } end
  if hash[1] ~= 'open' then return { stop = hash[1] } end
  local room = { seq = tonumber(hash[2]), id = hash[6], host = hash[7], step = 1, bytes = tonumber(hash[11] or 0),
    before = hash[2], pub = hash[8], has_pub = hash[8], others = { h = hash[9] or '', g = hash[10] or '' } }
  -- If all earlier messages are in the database, the next message adds the room to the host's set of unarchived rooms.
  room.is_archived = tonumber(hash[3]) >= room.seq
  -- While a slot is moving, an access to a key that this server lacks raises an error. The error must occur before the
  -- first write, so all keys are accessed here.
  redis.call('EXISTS', p .. 'log:' .. name, p .. 'ids:' .. name, p .. 'fresh:' .. hash[7])
  -- In a new epoch, the number skips ahead. The step is larger than the number of messages that can have been accepted
  -- since the last known number.
  if hash[4] ~= life then
    room.step = 10000 + 2 * math.max(0, now - tonumber(hash[5]))
    -- The messages of the previous epoch that still exist were on replicas, so all of them are visible.
    room.pub = false
  end
  return room
end

-- Redis does not roll back a failed script. All commands that can fail must therefore precede the first write.
redis.call('EXISTS', p .. 'idle')
for i = 8, #ARGV, 4 do
  if not rooms[ARGV[i]] then rooms[ARGV[i]] = load(ARGV[i]) end
end

for i = 8, #ARGV, 4 do
  local name, side, id, head = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local room = rooms[name]
  local answer
  if room.stop then
    answer = { room.stop }
  else
    local member = side .. ':' .. id
    local known = redis.call('ZSCORE', p .. 'ids:' .. name, member)
    if known then
      local entry = redis.call('XRANGE', p .. 'log:' .. name, known .. '-0', known .. '-0')
      answer = { 'known', tonumber(known), entry[1] and entry[1][2][2] or false }
      if ARGV[5] == '' and entry[1] then
        publish(name, room, known - 1, known, entry[1][2][2])
        -- A call that publishes must also write, because the caller's WAIT covers only writes.
        redis.call('ZADD', p .. 'idle', at, name)
      end
    elseif free <= 0 or queued + #head > tonumber(ARGV[3]) then
      room.stop = 'full'
      answer = { 'full' }
    else
      local prev = room.seq
      room.seq = prev + room.step
      room.step = 1
      room.used = true
      free = free - 1
      local seq = string.format('%.0f', room.seq)
      local frame = head .. seq .. '}'
      room.bytes = room.bytes + #frame
      queued = queued + #frame
      redis.call('XADD', p .. 'log:' .. name, seq .. '-0', 'f', frame, 'a', at)
      -- The entry lists the nodes on which the recipient's side has connections in the room.
      local trace = traces[i]
      if trace then
        redis.call('XADD', KEYS[1], '*', 'n', name, 'i', room.id, 'l', life, 'a', at, 'f', frame, 'o', room.others[side],
          't', trace)
      else
        redis.call('XADD', KEYS[1], '*', 'n', name, 'i', room.id, 'l', life, 'a', at, 'f', frame, 'o', room.others[side])
      end
      redis.call('ZADD', p .. 'ids:' .. name, seq, member)
      publish(name, room, prev, room.seq, frame, trace)
      answer = { 'ok', room.seq }
    end
  end
  answers[#answers + 1] = answer
end

for name, room in pairs(rooms) do
  if room.used then
    redis.call('HSET', p .. 'room:' .. name, 'seq', string.format('%.0f', room.seq), 'life', life, 'at', at, 'bytes',
      string.format('%.0f', room.bytes))
    -- `pub` is the number of the newest visible message. Messages that wait for replicas are not visible to readers.
    if ARGV[5] ~= '' then
      if room.has_pub then redis.call('HDEL', p .. 'room:' .. name, 'pub') end
    elseif not room.pub then
      redis.call('HSET', p .. 'room:' .. name, 'pub', room.before)
    end
    redis.call('ZREMRANGEBYRANK', p .. 'ids:' .. name, 0, -2001)
    redis.call('ZADD', p .. 'idle', at, name)
    if room.is_archived then redis.call('ZADD', p .. 'fresh:' .. room.host, at, name) end
  end
end
redis.call('HSET', p .. 'life', 'tick', string.format('%.0f', tick), 'queued', string.format('%.0f', queued))
if went_back then redis.call('HSET', p .. 'life', 'mark', mark, 'suspect', 'redis') end
if ARGV[5] == '' then
  answers[#answers + 1] = table.concat(publication)
elseif #publication > 0 then
  redis.call('SPUBLISH', ARGV[5], table.concat(publication))
end
return answers
