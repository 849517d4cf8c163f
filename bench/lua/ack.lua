-- QUEUE ACK: KEYS prefix; ARGV key, value. Answers whether the item was there; its result lives 60 s.
local item = KEYS[1] .. ':item:' .. ARGV[1]
if redis.call('DEL', item) == 0 then
  return 0
end
redis.call('ZREM', KEYS[1] .. ':active', ARGV[1])
redis.call('ZREM', KEYS[1] .. ':pending', ARGV[1])
redis.call('ZREM', KEYS[1] .. ':created', ARGV[1])
redis.call('SET', KEYS[1] .. ':result:' .. ARGV[1], ARGV[2], 'EX', 60)
return 1
