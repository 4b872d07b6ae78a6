#!lua flags=allow-oom
-- Moves a message from the queue to the dead letters, because the database can never store it. The room's `archived`
-- stays below the number of the message, so that the log keeps the message.
--
-- KEYS 1  {k}:archiver  2  {k}:queue  3  {k}:dead
-- ARGV 1  holder of the lease  2  position of the entry  3  reason  4  `1` if a different message has the same number
-- Returns 0 and changes nothing if the lease is lost.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local p = string.sub(KEYS[2], 1, -6)
local entry = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
if entry then
  local fields, of = entry[2], {}
  for i = 1, #fields, 2 do of[fields[i]] = fields[i + 1] end
  local room = p .. 'room:' .. (of.n or '')
  local seq = tonumber(string.match(of.f or '', '"seq":(%d+)}$') or '')
  if seq and redis.call('HEXISTS', room, 'seq') == 1 then
    local dead = tonumber(redis.call('HGET', room, 'dead') or '')
    if not dead or seq < dead then redis.call('HSET', room, 'dead', string.format('%.0f', seq)) end
  end
  fields[#fields + 1] = 'why'
  fields[#fields + 1] = ARGV[3]
  redis.call('XADD', KEYS[3], '*', unpack(fields))
  redis.call('XDEL', KEYS[2], ARGV[2])
  local queued = tonumber(redis.call('HGET', p .. 'life', 'queued') or 0) - #(of.f or '')
  redis.call('HSET', p .. 'life', 'queued', string.format('%.0f', math.max(0, queued)))
end
if ARGV[4] == '1' then redis.call('HSET', p .. 'life', 'suspect', 'redis') end
return 1
