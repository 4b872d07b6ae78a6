#!lua flags=allow-oom
-- Renews the lease of a node. If the lease cannot be renewed, grants a new lease to the next incarnation of the node.
-- An expired lease is never renewed, because another node may already be removing the entries of its incarnation.
--
-- KEYS 1  nodes
-- ARGV 1  incarnation whose lease is renewed; may be empty
--      2  incarnation that receives a new lease otherwise; if empty, the script only reads
--      3  replication id of the server that granted the lease of ARGV 1  4  duration of a lease in ms
-- Returns {replication id, incarnation that holds the lease, {live incarnations…}, {dead incarnations…}}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = string.format('%.0f', now + ARGV[4])
local mark = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
-- A master whose clock was ahead may have written deadlines that are too late. They are reduced to the maximum.
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. deadline, '+inf')) do
  redis.call('ZADD', KEYS[1], deadline, node)
end
local holder = ARGV[2]
if ARGV[1] ~= '' and ARGV[3] == mark then
  local until_then = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if until_then and tonumber(until_then) > now then holder = ARGV[1] end
end
if holder ~= '' then redis.call('ZADD', KEYS[1], deadline, holder) end
local present = string.format('%.0f', now)
return {
  mark, holder,
  redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. present, '+inf'),
  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', present),
}
