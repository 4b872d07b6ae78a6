-- Moves an entry that SQL will never take to the dead letters.
--
-- KEYS 1  pt:{k}:archiver  2  pt:{k}:queue  3  pt:{k}:dead
-- ARGV 1  holder of the lease  2  entry  3  why
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local entry = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
if entry then
  local fields = entry[2]
  fields[#fields + 1] = 'why'
  fields[#fields + 1] = ARGV[3]
  redis.call('XADD', KEYS[3], '*', unpack(fields))
  redis.call('XDEL', KEYS[2], ARGV[2])
end
return 1
