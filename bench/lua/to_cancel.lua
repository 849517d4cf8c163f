-- QUEUE TO_CANCEL: KEYS prefix; ARGV the latest time that is stalled or orphaned. Answers the keys.
local stalled = redis.call('ZRANGEBYSCORE', KEYS[1] .. ':active', '-inf', ARGV[1])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. ':created', '-inf', ARGV[1])) do
  stalled[#stalled + 1] = key
end
return stalled
