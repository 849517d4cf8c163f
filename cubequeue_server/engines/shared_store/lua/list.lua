-- LIST, PENDING and ACTIVE (commands.md §4.4). `lanes` are those that the caller may see, of 16 bytes each; `caller` is
-- its process id after one byte, or empty; `which` holds 'p' for pending and 'a' for active items. With `payloads`
-- stored payloads are given too, but for lists longer than that.
-- Cells: of each item id8, its row of `d`, its extra or none, and its stored payload if payloads are given: '1' in the
-- first cell then. Pending items come in the order of LIST within each lane, active ones by id; the server merges.
-- keys: s d v p a
-- args: clock qlane lanes caller which payloads
-- flags: no-writes
-- uses: items
local answer = expired()
if answer then
  return answer
end
local ids = {}
if string.find(which, 'p', 1, true) then
  for at = 1, #lanes, 16 do
    local lane = sub(lanes, at, at + 15)
    local members = call('ZRANGE', p, '[' .. lane, beyond(lane), 'BYLEX')
    for number = 1, #members do
      ids[#ids + 1] = sub(members[number], 25)
    end
  end
end
local running = #ids
if string.find(which, 'a', 1, true) then
  local members = call('ZRANGE', a, '[' .. qlane, beyond(qlane), 'BYLEX')
  for number = 1, #members do
    ids[#ids + 1] = sub(members[number], 17, 24)
  end
end
local with_payloads = payloads ~= '0' and #ids <= tonumber(payloads)
local reply, at_cell = {'=', with_payloads and '1' or '0'}, 3
for first = 1, #ids, 1000 do
  local last = math.min(first + 999, #ids)
  local rows = call('HMGET', d, unpack(ids, first, last))
  for at = first, last do
    local row = rows[at - first + 1]
    local _, _, _, _, _, _, _, extra_size = parse(HEAD, row)
    local path_size, _, process_size, _, exclusive = parse('>I4I4I4I4c1', row, 90)
    if at <= running or exclusive == '0' or (caller ~= ''
        and sub(row, ITEM_SIZE + path_size + 1, ITEM_SIZE + path_size + process_size - 1) == sub(caller, 2)) then
      reply[at_cell], reply[at_cell + 1] = ids[at], row
      reply[at_cell + 2] = extra_size > 0 and call('HGET', v, ids[at] .. 'x')
      at_cell = at_cell + 3
      if with_payloads then
        reply[at_cell] = call('HGET', v, ids[at])
        at_cell = at_cell + 1
      end
    end
  end
end
return reply
