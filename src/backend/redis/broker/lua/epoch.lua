-- Returns the current epoch of a partition in the format of accept.lua, or false if this server has no epoch.
--
-- KEYS 1  {k}:life
local mark = redis.call('HGET', KEYS[1], 'mark')
if not mark then return false end
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') .. '.' .. mark
