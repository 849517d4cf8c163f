-- CACHE KEYS (commands.md §5): the part of this shard. Cells: order8 .. path of each entry of the prefix.
-- keys: s ci
-- args: clock lane
-- flags: no-writes
-- uses:
if cdue > 0 and now >= cdue then
  return {'D'}
end
local members = call('ZRANGE', ci, '[' .. lane, beyond(lane), 'BYLEX')
for at = 1, #members do
  members[at] = sub(members[at], 17)
end
table.insert(members, 1, '=')
return members
