-- QUEUE LIST: KEYS prefix. Answers key, id, status and extra of each item, the pending ones in their order.
local rows = {}
for _, status in ipairs({'active', 'pending'}) do
  for _, key in ipairs(redis.call('ZRANGE', KEYS[1] .. ':' .. status, 0, -1)) do
    local item = redis.call('HMGET', KEYS[1] .. ':item:' .. key, 'id', 'extra')
    rows[#rows + 1] = {key, item[1], status, item[2]}
  end
end
return rows
