-- QUEUE HEARTBEAT: KEYS prefix; ARGV key, now.
local item = KEYS[1] .. ':item:' .. ARGV[1]
if redis.call('EXISTS', item) == 0 then
  return 0
end
redis.call('HSET', item, 'heartbeat', ARGV[2])
redis.call('ZADD', KEYS[1] .. ':active', 'XX', ARGV[2], ARGV[1])
return 1
