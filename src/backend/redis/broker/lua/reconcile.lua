#!lua flags=allow-oom
-- Updates a room from its database row, because a store may have been restored to an earlier state.
--
-- KEYS 1  {k}:room:<name>  2  {k}:log:<name>  3  {k}:queue
-- ARGV 1  room  2  chatroom  3  state in the database  4  version in the database  5  highest number in the database
--      6  the calling node  7  `1` if the state in the database applies even if its version is lower
--      8… numbers that are in the log and missing from the database, in ascending order
-- Returns the number of messages that were queued again, or -1 if the room is deleted or has a different id.
local hash = redis.call('HMGET', KEYS[1], 'state', 'seq', 'archived', 'id', 'life', 'sv')
if not hash[1] or hash[1] == 'deleted' or hash[4] ~= ARGV[2] then return -1 end
local life = string.sub(KEYS[3], 1, -6) .. 'life'
local seq, archived, again, bytes = tonumber(hash[2]), tonumber(hash[3]), 0, 0
for i = 8, #ARGV do
  -- The messages above `archived` are already in the queue.
  local entry = tonumber(ARGV[i]) <= archived and redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  if entry then
    -- The entry lists the calling node, so that the recipient counts as present. Recipients were already notified when
    -- the message was first archived.
    redis.call('XADD', KEYS[3], '*', 'n', ARGV[1], 'i', hash[4], 'l', hash[5], 'a', entry[2][4], 'f', entry[2][2], 'o', ARGV[6])
    again = again + 1
    bytes = bytes + #entry[2][2]
  end
end
if again > 0 then
  redis.call('HINCRBY', life, 'queued', bytes)
  archived = math.min(archived, tonumber(ARGV[8]) - 1)
end
if tonumber(ARGV[5]) > seq then
  seq = tonumber(ARGV[5])
  redis.call('HSET', KEYS[1], 'life', 'behind')
end
if ARGV[7] == '1' or tonumber(ARGV[4]) > tonumber(hash[6]) then
  redis.call('HSET', KEYS[1], 'state', ARGV[3], 'sv', ARGV[4])
end
redis.call('HSET', KEYS[1], 'seq', string.format('%.0f', seq), 'archived', string.format('%.0f', archived))
return again
