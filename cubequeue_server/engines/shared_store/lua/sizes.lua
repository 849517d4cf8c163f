-- The smallest and the largest row of a table, some thousand rows at a time (SYS CACHESTORE INFO). `table` is 'd', 'r'
-- or 'C'. Cells: the next cursor, smallest, largest; the last two are missing when there was no row.
-- keys: s d r rv ch
-- args: clock which cursor
-- flags: no-writes
-- uses:
local key = which == 'd' and d or which == 'r' and rv or ch
local page = call('HSCAN', key, cursor, 'COUNT', 1000)
local smallest, largest
for at = 1, #page[2], 2 do
  local row, size = page[2][at + 1], nil
  if which == 'd' then
    local payload, extra = parse('>I4I4', row, 42)
    size = payload + math.max(extra - 1, 0)
  elseif which == 'r' then
    local kind = byte(row)
    size = (kind == 84 or kind == 66) and parse('>I8', row, 18) or #row - 1
  else
    size = #page[2][at] + parse('>I8', row, 17) + 160
  end
  if not smallest or size < smallest then
    smallest = size
  end
  if not largest or size > largest then
    largest = size
  end
end
return {'=', page[1], smallest and number(smallest), largest and number(largest)}
