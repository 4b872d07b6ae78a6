#!lua flags=allow-oom
-- Deletes a room's dead letters, one part of the stream per call.
--
-- KEYS 1  {k}:dead
-- ARGV 1  room  2  highest number to delete; empty: all  3  start of the range  4  how many entries to examine
-- Returns the start of the next call; empty at the end.
local entries = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', ARGV[4])
local through = tonumber(ARGV[2])
for _, entry in ipairs(entries) do
  local fields, of = entry[2], {}
  for i = 1, #fields, 2 do of[fields[i]] = fields[i + 1] end
  local seq = tonumber(string.match(of.f or '', '"seq":(%d+)}$') or '')
  if of.n == ARGV[1] and (not through or (seq and seq <= through)) then redis.call('XDEL', KEYS[1], entry[1]) end
end
if #entries < tonumber(ARGV[4]) then
  -- Remove the key of an empty stream.
  if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
  return ''
end
return '(' .. entries[#entries][1]
