-- QUEUE ADD: KEYS prefix; ARGV key, payload, priority, now. Answers id, added, pending.
local item = KEYS[1] .. ':item:' .. ARGV[1]
local pending = KEYS[1] .. ':pending'
local id = redis.call('HGET', item, 'id')
if id then
  return {id, 0, redis.call('ZCARD', pending)}
end
id = redis.call('INCR', 'queue:id')
redis.call('HSET', item, 'id', id, 'payload', ARGV[2], 'priority', ARGV[3], 'created', ARGV[4])
redis.call('ZADD', pending, -tonumber(ARGV[3]) * 1e12 + id, ARGV[1])
redis.call('ZADD', KEYS[1] .. ':created', ARGV[4], ARGV[1])
return {tostring(id), 1, redis.call('ZCARD', pending)}
