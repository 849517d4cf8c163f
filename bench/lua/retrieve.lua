-- QUEUE RETRIEVE CONCURRENCY: KEYS prefix; ARGV key, concurrency, now. Answers payload, extra, pending, active, id.
local active = KEYS[1] .. ':active'
local pending = KEYS[1] .. ':pending'
if redis.call('ZCARD', active) >= tonumber(ARGV[2]) then
  return {}
end
if redis.call('ZREM', pending, ARGV[1]) == 0 then
  return {}
end
redis.call('ZREM', KEYS[1] .. ':created', ARGV[1])
redis.call('ZADD', active, ARGV[3], ARGV[1])
local row = redis.call('HMGET', KEYS[1] .. ':item:' .. ARGV[1], 'payload', 'extra', 'id')
return {row[1], row[2], redis.call('ZCARD', pending), table.concat(redis.call('ZRANGE', active, 0, -1), ','), row[3]}
