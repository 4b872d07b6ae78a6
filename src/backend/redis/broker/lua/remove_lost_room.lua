#!lua flags=allow-oom
-- Removes a room that has no row in the database or has a row with a different id. The entries of its log become dead
-- letters.
--
-- KEYS 1  {k}:room:<name>  2  {k}:log:<name>  3  {k}:ids:<name>  4  {k}:seed:<name>  5  {k}:idle  6  {k}:dead
-- ARGV 1  room  2  chatroom  3  reason  4  lifetime of the tombstone in s, or empty if the room must be seeded again
--      5  channel of the bus  6  the publication
-- Returns the number of dead letters, or -1 if the room is deleted, or -2 if it has a different id.
local hash = redis.call('HMGET', KEYS[1], 'state', 'id', 'life', 'sv', 'host')
if hash[1] == 'deleted' then return -1 end
if hash[2] and hash[2] ~= ARGV[2] then return -2 end
local from, dead = '-', 0
while true do
  local entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 100)
  if not entries[1] then break end
  for _, entry in ipairs(entries) do
    redis.call('XADD', KEYS[6], '*', 'n', ARGV[1], 'i', ARGV[2], 'l', hash[3] or 'unknown', 'a', entry[2][4], 'f', entry[2][2],
      'why', ARGV[3])
    dead = dead + 1
    from = '(' .. entry[1]
  end
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[1])
if hash[5] then redis.call('ZREM', string.sub(KEYS[5], 1, -5) .. 'fresh:' .. hash[5], ARGV[1]) end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'state', 'deleted', 'sv', '4294967295')
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
redis.call('SPUBLISH', ARGV[5], ARGV[6])
return dead
