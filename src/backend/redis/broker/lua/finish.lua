#!lua flags=allow-oom
-- Updates rooms after a batch of the archive queue was committed in the database. Trims the logs of the rooms, and
-- removes the batch from the queue.
--
-- KEYS 1  {k}:archiver  2  {k}:queue
-- ARGV 1  holder of the lease  2  first entry to keep  3  lifetime of a tombstone in s
--      4  size of the removed frames in bytes
--      5  maximum size of the archived messages in a log, in bytes; a larger log is trimmed to three quarters of it
--      6… five per room: room, archived, state and version in the database, highest number in the database before the
--         batch (-1: the room has no row)
-- Returns 0 and changes nothing if the lease is lost, and 1 otherwise.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local p = string.sub(KEYS[2], 1, -6)

-- Trims a log that exceeds the limit to three quarters of the limit, by removing its oldest archived messages. A
-- smaller trim would have to be repeated too often, because a trim costs as much as accepting several messages. Returns
-- the remaining size in bytes.
local function trim(log, bytes, archived)
  local most = tonumber(ARGV[5])
  if bytes <= most then return bytes end
  most = most * 3 / 4
  while bytes > most do
    local entries = redis.call('XRANGE', log, '-', string.format('%.0f', archived), 'COUNT', 16)
    if not entries[1] then break end
    local last
    for _, entry in ipairs(entries) do
      bytes = bytes - #entry[2][2]
      last = tonumber(string.match(entry[1], '^%d+'))
      if bytes <= most then break end
    end
    redis.call('XTRIM', log, 'MINID', string.format('%.0f', last + 1))
  end
  return bytes
end

for i = 6, #ARGV, 5 do
  local room, log = p .. 'room:' .. ARGV[i], p .. 'log:' .. ARGV[i]
  local hash = redis.call('HMGET', room, 'state', 'sv', 'seq', 'archived', 'dead', 'bytes', 'host')
  if hash[1] and hash[1] ~= 'deleted' then
    local state, archived, seq = hash[1], tonumber(ARGV[i + 1]), tonumber(hash[3])
    local bytes, had = tonumber(hash[6] or 0), tonumber(ARGV[i + 4])
    if had >= 0 and had < tonumber(hash[4]) then
      -- The database had every message up to `archived`, and some of these messages are missing now.
      redis.call('HSET', p .. 'life', 'suspect', 'sql')
    end
    if archived > seq then
      -- The database has a higher number than any number that this server has assigned. This server was therefore
      -- restored to an earlier state, and the next number must skip ahead.
      redis.call('HSET', room, 'seq', string.format('%.0f', archived), 'life', 'behind')
      redis.call('HSET', p .. 'life', 'suspect', 'redis')
      seq = archived
    end
    -- A dead letter is missing from the database, so `archived` stays below its number.
    if hash[5] then archived = math.min(archived, tonumber(hash[5]) - 1) end
    archived = math.max(archived, tonumber(hash[4]))
    if archived >= seq then redis.call('ZREM', p .. 'fresh:' .. hash[7], ARGV[i]) end
    if tonumber(ARGV[i + 3]) > tonumber(hash[2]) then
      state = ARGV[i + 2]
      redis.call('HSET', room, 'state', state, 'sv', ARGV[i + 3])
    end
    if state == 'deleted' then
      redis.call('DEL', room, log, p .. 'ids:' .. ARGV[i])
      redis.call('HSET', room, 'state', 'deleted', 'sv', ARGV[i + 3])
      redis.call('EXPIRE', room, ARGV[3])
    elseif state == 'closed' and archived >= seq then
      redis.call('DEL', log)
      redis.call('HSET', room, 'archived', string.format('%.0f', archived), 'bytes', 0)
    else
      bytes = trim(log, bytes, archived)
      redis.call('HSET', room, 'archived', string.format('%.0f', archived), 'bytes', string.format('%.0f', bytes))
    end
  end
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
local queued = tonumber(redis.call('HGET', p .. 'life', 'queued') or 0) - tonumber(ARGV[4])
if redis.call('XLEN', KEYS[2]) == 0 then queued = 0 end
redis.call('HSET', p .. 'life', 'queued', string.format('%.0f', math.max(0, queued)))
return 1
