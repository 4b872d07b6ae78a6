#!lua flags=allow-oom
-- Renews a node's lease. If that is not possible, grants the node a new lease under another incarnation. Returns live
-- and dead nodes. An expired lease is never renewed, because another node may be removing the entries of its
-- incarnation.
--
-- KEYS 1  nodes
-- ARGV 1  the incarnation whose lease is renewed; may be empty  2  the incarnation that receives a new lease otherwise;
--      empty: read only  3  the server's replication id when the incarnation of ARGV 1 received its lease
--      4  duration of a lease in ms
-- Returns {replication id, incarnation that holds the lease, {live…}, {dead…}}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = string.format('%.0f', now + ARGV[4])
local mark = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
-- A master whose clock was ahead may have written leases that would outlive their nodes.
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
