-- Grants the caller a ticket to seed a room that this server does not have. A stored ticket with more than the full
-- lifetime left was written before the server's clock was set back. Such a ticket is deleted.
--
-- KEYS 1  {k}:room:<name>  2  {k}:seed:<name>
-- ARGV 1  ticket  2  lifetime of the ticket in ms
-- Returns 1 if the ticket was granted, and 0 otherwise.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('PTTL', KEYS[2]) > tonumber(ARGV[2]) then redis.call('DEL', KEYS[2]) end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
