-- CACHE SET (commands.md §5). `ttl_ms` is empty for none; `nx` '1' leaves a live entry alone.
-- Cells: '1', or '0' for what NX left alone. After them: the highest number given. Also replies 'P' as ADD does.
-- keys: s C ch ci ce bq bx hc uz ux u0 u1
-- args: clock mid bounds path lane lowest ttl_ms nx value
-- flags:
-- uses: pieces answers cache
local answer = kept() or answers_full()
if answer then
  return answer
end
local before = live_entry(path)
local reply = {'=', '1'}
if before and nx == '1' then
  reply[2] = '0'
else
  if not adopt(value, PIECES, hc) then
    save()
    return {'P'}
  end
  put_entry(path, lane, value, ttl_ms == '' and 0 or now + ttl_ms, tonumber(lowest), before)
end
keep(reply, 1)
save()
reply[3] = number(seq)
return reply
