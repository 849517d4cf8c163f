-- CACHE INCR (commands.md §5), on the decimal text, for Lua's numbers are not exact.
-- Cells: the new text. After them: the highest number given. Errors: 'binary' | 'empty' | 'digit' | 'large' | 'small'.
-- keys: s C ch ci ce bq bx hc uz ux u0 u1
-- args: clock mid bounds path lane lowest
-- flags:
-- uses: pieces answers cache
local answer = kept() or answers_full()
if answer then
  return answer
end

-- The decimal digits of a number plus or minus one, without leading zeros.
local function step(digits, by)
  local at = #digits
  local wraps, becomes = by > 0 and 57 or 48, by > 0 and '0' or '9'
  while at > 0 and byte(digits, at) == wraps do
    at = at - 1
  end
  local tail = string.rep(becomes, #digits - at)
  if at == 0 then
    return '1' .. tail
  end
  local head = sub(digits, 1, at - 1) .. string.char(byte(digits, at) + by) .. tail
  return (string.gsub(head, '^0+(%d)', '%1'))
end

-- Whether digits mean more than 2^63 - 1 (`limit` 7) or 2^63 (`limit` 8).
local function exceeds(digits, limit)
  if #digits ~= 19 then
    return #digits > 19
  end
  local high, low = tonumber(sub(digits, 1, 10)), tonumber(sub(digits, 11))
  return high > 9223372036 or (high == 9223372036 and low > 854775800 + limit)
end

-- The text plus one, or nil and the error.
local function incremented(value)
  if value == '' then
    return nil, 'empty'
  end
  local sign, digits = string.match(value, '^([+-]?)(%d+)$')
  if not digits then
    return nil, 'digit'
  end
  digits = string.gsub(digits, '^0+(%d)', '%1')
  if sign == '-' and digits ~= '0' then
    if exceeds(digits, 8) then
      return nil, 'small'
    end
    local less = step(digits, -1)
    return less == '0' and '0' or '-' .. less
  end
  if exceeds(digits, 7) or digits == '9223372036854775807' then
    return nil, 'large'
  end
  return step(digits, 1)
end

local before = live_entry(path)
local value, ends = '1', 0
if before then
  local kind = sub(before, 34, 34)
  local failure = kind == 'T' and 'digit' or kind ~= 't' and 'binary' or nil
  if not failure then
    ends = parse('>I8', before)
    value, failure = incremented(sub(call('HGET', C, path), 10))
  end
  if failure then
    return {'E', failure}
  end
end
put_entry(path, lane, 't' .. value, ends, tonumber(lowest), before)
local reply = {'=', value}
keep(reply, 1)
save()
reply[3] = number(seq)
return reply
