-- Grants the caller a ticket to seed a room that this server does not have. A stored ticket with more than the full
-- lifetime left was written before the server's clock was set back. Such a ticket is deleted.
--
-- KEYS 1  {k}:room:<name>  2  {k}:seed:<name>  3  {k}:life
-- ARGV 1  ticket  2  its lifetime in ms
-- Returns false if the ticket was not granted, and otherwise the current epoch of the partition in the format of
-- accept.lua; empty if none has begun on this server.
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  if redis.call('PTTL', KEYS[2]) <= tonumber(ARGV[2]) then return false end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
local mark = redis.call('HGET', KEYS[3], 'mark')
if not mark then return '' end
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') .. '.' .. mark
