-- Sets a shard up, once, and says how it was: cells: schema, shards. A first start writes its own.
-- keys: s m
-- args: clock own_schema own_shards
-- flags:
-- uses:
local known = call('HMGET', m, 'schema', 'shards')
if known[1] then
  return {'=', known[1], known[2]}
end
call('HSET', m, 'schema', own_schema, 'shards', own_shards)
return {'=', own_schema, own_shards}
