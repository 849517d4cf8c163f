-- QUEUE MERGE_EXTRA: KEYS prefix; ARGV key, extra. Merges the top level of two JSON objects.
local item = KEYS[1] .. ':item:' .. ARGV[1]
if redis.call('EXISTS', item) == 0 then
  return 0
end
local merged = cjson.decode(redis.call('HGET', item, 'extra') or '{}')
for name, value in pairs(cjson.decode(ARGV[2])) do
  merged[name] = value
end
redis.call('HSET', item, 'extra', cjson.encode(merged))
return 1
