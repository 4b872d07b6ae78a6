#!lua flags=allow-oom
-- Deletes dead letters of a room. Each call examines one range of the stream.
--
-- KEYS 1  {k}:dead
-- ARGV 1  room  2  highest sequence number to delete, or empty to delete all  3  start of the range
--      4  number of entries to examine
-- Returns the start of the next range, or an empty string after the last range.
local entries = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', ARGV[4])
local through = tonumber(ARGV[2])
for _, entry in ipairs(entries) do
  local fields, of = entry[2], {}
  for i = 1, #fields, 2 do of[fields[i]] = fields[i + 1] end
  local seq = tonumber(string.match(of.f or '', '"seq":(%d+)}$') or '')
  if of.n == ARGV[1] and (not through or (seq and seq <= through)) then redis.call('XDEL', KEYS[1], entry[1]) end
end
if #entries < tonumber(ARGV[4]) then
  -- Redis keeps the key of an empty stream, so the key is deleted explicitly.
  if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
  return ''
end
return '(' .. entries[#entries][1]
