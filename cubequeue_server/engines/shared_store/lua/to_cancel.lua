-- STALLED, ORPHANED and TO_CANCEL (commands.md §4.5). The timeouts are in ms, or empty for what is not asked.
-- Cells: of each item its id8 and its key, in no order; the server sorts by id.
-- keys: s d hb c o
-- args: clock qlane stalled_ms orphaned_ms
-- flags: no-writes
-- uses: items
local answer = expired()
if answer then
  return answer
end
local ids = {}
local function collect(index, before)
  if before <= 0 then
    return
  end
  local members = call('ZRANGE', index, '[' .. qlane, '(' .. qlane .. pack('>I8', before), 'BYLEX')
  for at = 1, #members do
    ids[#ids + 1] = sub(members[at], 25)
  end
end
if stalled_ms ~= '' then
  collect(hb, now - stalled_ms)
end
if orphaned_ms ~= '' then
  collect(c, now - orphaned_ms)
  collect(o, now)
end
local reply = {'='}
for first = 1, #ids, 1000 do
  local last = math.min(first + 999, #ids)
  local rows = call('HMGET', d, unpack(ids, first, last))
  for at = 1, #rows do
    local path_size, size = parse('>I4I4', rows[at], 90)
    local path = sub(rows[at], ITEM_SIZE + 1, ITEM_SIZE + path_size)
    reply[#reply + 1] = ids[first + at - 1]
    reply[#reply + 1] = key_of(path, size)
  end
end
return reply
