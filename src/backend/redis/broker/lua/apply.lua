#!lua flags=allow-oom
-- Applies and publishes a room change that the database has committed, unless a newer change has been applied.
--
-- KEYS 1  {k}:room:<name>  2  {k}:log:<name>  3  {k}:ids:<name>  4  {k}:seed:<name>  5  {k}:idle
-- ARGV 1  version  2  open | closed | deleted  3  channel of the bus  4  the publication  5  room
--      6  lifetime of a tombstone in s
-- Returns 1 if the change was applied, and 0 if it was outdated or had already been applied.
local hash = redis.call('HMGET', KEYS[1], 'sv', 'seq', 'archived', 'state', 'host')
local version, known = tonumber(ARGV[1]), tonumber(hash[1] or -1)
if known >= version then
  -- An archiver or a seeding node may have applied this state without publishing the change. It is harmless to publish
  -- a change twice.
  if hash[4] == ARGV[2] and (known == version or ARGV[2] == 'deleted') then redis.call('SPUBLISH', ARGV[3], ARGV[4]) end
  return 0
end
-- A node that is seeding the room read the database before this change. Deleting its ticket forces the node to read the
-- database again.
redis.call('DEL', KEYS[4])
if ARGV[2] == 'deleted' then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'state', 'deleted', 'sv', ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[6])
  redis.call('ZREM', KEYS[5], ARGV[5])
  if hash[5] then redis.call('ZREM', string.sub(KEYS[5], 1, -5) .. 'fresh:' .. hash[5], ARGV[5]) end
elseif hash[1] then
  redis.call('HSET', KEYS[1], 'state', ARGV[2], 'sv', ARGV[1])
  if ARGV[2] == 'closed' and tonumber(hash[3]) >= tonumber(hash[2]) then
    redis.call('DEL', KEYS[2])
    redis.call('HDEL', KEYS[1], 'bytes')
  end
end
redis.call('SPUBLISH', ARGV[3], ARGV[4])
return 1
