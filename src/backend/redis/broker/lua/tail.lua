#!lua flags=no-writes
-- Counts the guest messages in a range of a room's log, and returns the newest message of the room.
--
-- KEYS 1  {k}:log:<name>
-- ARGV 1  number before the first message  2  number of the last message
--      3  time of acceptance in ms; only later guest messages are counted  4  maximum number of entries to read
-- Returns {number of guest messages, number of the last message that was read}. If the log contains the last message,
-- its {frame, time of acceptance} follow.
local counted, last, looked = 0, tonumber(ARGV[1]), 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', ARGV[2] .. '-0', 'COUNT', ARGV[4])) do
  looked = looked + 1
  last = tonumber(string.match(entry[1], '^%d+'))
  local is_guest = string.sub(entry[2][2], 1, 39) == '{"type":"chat_message","is_host":false,'
  if is_guest and tonumber(entry[2][4]) > tonumber(ARGV[3]) then counted = counted + 1 end
end
if looked < tonumber(ARGV[4]) then last = math.max(last, tonumber(ARGV[2])) end
local newest = redis.call('XREVRANGE', KEYS[1], ARGV[2] .. '-0', '-', 'COUNT', 1)[1]
if not newest then return { counted, last } end
return { counted, last, newest[2][2], newest[2][4] }
