-- CACHE KEYS (commands.md §5): the part of this shard. Cells: order8 .. path of each live entry of the prefix.
-- keys: s ci ch
-- args: clock lane
-- flags: no-writes
-- uses:
local members = call('ZRANGE', ci, '[' .. lane, beyond(lane), 'BYLEX')
for at = 1, #members do
  members[at] = sub(members[at], 17)
end
local reply = {'='}
if cdue == 0 or now < cdue then
  for at = 1, #members do
    reply[at + 1] = members[at]
  end
  return reply
end
for first = 1, #members, 1000 do
  local paths = {}
  for at = first, math.min(first + 999, #members) do
    paths[#paths + 1] = sub(members[at], 9)
  end
  for at, row in ipairs(call('HMGET', ch, unpack(paths))) do
    local ends = parse('>I8', row)
    if ends == 0 or ends > now then
      reply[#reply + 1] = members[first + at - 1]
    end
  end
end
return reply
