-- Numbers, stores and publishes a batch of messages of one partition: the one step behind every acknowledgement.
--
-- KEYS 1  pt:{k}:queue; the partition's other keys share its slot and are made from its prefix
-- ARGV 1  not_after: past this instant (ms, this server's clock) nothing is done any more
--      2  how many entries the queue may hold
--      3  the bus; empty: the caller publishes, once replicas have the batch
--      4  the calling node
--      5  traces: a line `<place in the batch, from 0> <traceparent>` for each message that is traced; usually empty
--      6… four a message: room, side (g or h), id, frame up to the place of its number
-- Returns {now} and then, a message, {'ok', seq} | {'known', seq, frame or false} | {'closed'} | {'deleted'} |
-- {'unseeded'} | {'full'}; without a bus also the publication, with what was known before in it, as an earlier call may
-- have been given up before it was published. Or {now} alone when it is too
-- late.
local p = string.sub(KEYS[1], 1, -6)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[1]) then return { now } end

-- Another replication id is another life of this server: what it gave numbers to may have been lost with the last one. So is
-- the loss of a mark that it was given, as by FLUSHALL.
local mark = redis.call('GET', p .. 'life')
local is_new = not mark
if is_new then mark = string.format('%x', time[1] * 1000000 + time[2]) end
local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') .. '.' .. mark
local free = tonumber(ARGV[2]) - redis.call('XLEN', KEYS[1])
local at = string.format('%.0f', now)
local rooms, answers, publication, traces = {}, { now }, {}, {}
for place, parent in string.gmatch(ARGV[5], '(%d+) (%S+)\n') do traces[6 + 4 * place] = parent end

local function publish(name, room, prev, seq, frame, trace)
  if not publication[1] then
    local partition = string.match(p, '{(%d+)}')
    publication[1] = string.format('A%s %.0f %s 0 0\n', ARGV[4], now, partition)
  end
  if trace then publication[#publication + 1] = string.format('T%s %.0f 0 0 %d\n%s', name, seq, #trace, trace) end
  publication[#publication + 1] = string.format('M%s %.0f %.0f %s %d\n', name, prev, seq, room.host, #frame)
  publication[#publication + 1] = frame
end

local function load(name)
  local hash = redis.call('HMGET', p .. 'room:' .. name, 'state', 'seq', 'archived', 'life', 'at', 'id',
    'host', 'pub', 'guests', 'hosts')
  if not hash[1] then return { stop = 'unseeded' } end
  if hash[1] ~= 'open' then return { stop = hash[1] } end
  local room = { seq = tonumber(hash[2]), archived = tonumber(hash[3]), id = hash[6], host = hash[7], step = 1,
    before = hash[2], pub = hash[8], has_pub = hash[8], others = { h = hash[9] or '', g = hash[10] or '' } }
  -- In a slot that is being moved, a key that is not here is an error: better now than between two writes.
  redis.call('EXISTS', p .. 'log:' .. name, p .. 'ids:' .. name)
  -- More than anybody can have been given since the last number that is known.
  if hash[4] ~= life then
    room.step = 10000 + 2 * math.max(0, now - tonumber(hash[5]))
    -- What this server has of another life, replicas had.
    room.pub = false
  end
  return room
end

-- All that may fail comes before the first write: a script is not rolled back.
redis.call('EXISTS', p .. 'idle')
for i = 6, #ARGV, 4 do
  if not rooms[ARGV[i]] then rooms[ARGV[i]] = load(ARGV[i]) end
end

if is_new then redis.call('SET', p .. 'life', mark) end
for i = 6, #ARGV, 4 do
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
      if ARGV[3] == '' and entry[1] then
        publish(name, room, known - 1, known, entry[1][2][2])
        -- Replicas are waited for only by who wrote something.
        redis.call('ZADD', p .. 'idle', at, name)
      end
    elseif free <= 0 then
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
      redis.call('XADD', p .. 'log:' .. name, seq .. '-0', 'f', frame, 'a', at)
      -- With the nodes that have somebody of the other side in the room.
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
    redis.call('HSET', p .. 'room:' .. name, 'seq', string.format('%.0f', room.seq), 'life', life, 'at', at)
    -- What waits for replicas is not shown to anybody: 'pub' is the newest that is.
    if ARGV[3] ~= '' then
      if room.has_pub then redis.call('HDEL', p .. 'room:' .. name, 'pub') end
    elseif not room.pub then
      redis.call('HSET', p .. 'room:' .. name, 'pub', room.before)
    end
    -- What is not in SQL stays in the log, and the newest thousand.
    local keep = math.min(room.seq - 999, room.archived + 1)
    if keep > 1 then redis.call('XTRIM', p .. 'log:' .. name, 'MINID', '~', string.format('%.0f', keep)) end
    redis.call('ZREMRANGEBYRANK', p .. 'ids:' .. name, 0, -2001)
    redis.call('ZADD', p .. 'idle', at, name)
  end
end
if ARGV[3] == '' then
  answers[#answers + 1] = table.concat(publication)
elseif #publication > 0 then
  redis.call('SPUBLISH', ARGV[3], table.concat(publication))
end
return answers
