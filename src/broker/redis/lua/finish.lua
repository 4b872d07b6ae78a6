#!lua flags=allow-oom
-- After a batch of the archive queue was committed: marks the rooms, trims their logs, and removes the batch.
--
-- KEYS 1  pt:{k}:archiver  2  pt:{k}:queue
-- ARGV 1  holder of the lease  2  first entry that stays  3  tombstone's life in s  4… four a room: room, archived, state,
--      version, as SQL has them
-- Returns 0, and does nothing, if the lease is lost.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local p = string.sub(KEYS[2], 1, -6)
for i = 4, #ARGV, 4 do
  local room, log = p .. 'room:' .. ARGV[i], p .. 'log:' .. ARGV[i]
  local hash = redis.call('HMGET', room, 'state', 'sv', 'seq', 'archived', 'dead')
  if hash[1] and hash[1] ~= 'deleted' then
    local state, archived = hash[1], tonumber(ARGV[i + 1])
    -- A dead letter is not in SQL.
    if hash[5] then archived = math.min(archived, tonumber(hash[5]) - 1) end
    archived = math.max(archived, tonumber(hash[4]))
    if tonumber(ARGV[i + 3]) > tonumber(hash[2]) then
      state = ARGV[i + 2]
      redis.call('HSET', room, 'state', state, 'sv', ARGV[i + 3])
    end
    if state == 'deleted' then
      redis.call('DEL', room, log, p .. 'ids:' .. ARGV[i])
      redis.call('HSET', room, 'state', 'deleted', 'sv', ARGV[i + 3])
      redis.call('EXPIRE', room, ARGV[3])
    else
      redis.call('HSET', room, 'archived', string.format('%.0f', archived))
      local seq = tonumber(hash[3])
      if state == 'closed' and archived >= seq then
        redis.call('DEL', log)
      elseif seq > 1000 then
        redis.call('XTRIM', log, 'MINID', '~', string.format('%.0f', math.min(seq - 999, archived + 1)))
      end
    end
  end
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
return 1
