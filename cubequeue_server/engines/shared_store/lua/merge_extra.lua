-- MERGE_EXTRA (commands.md §4.8): sets the extra of an item if it still is what the server merged with.
-- `expected` is the extra after one byte, or empty for none; `extra` likewise. The first try of a server expects none.
-- No cells. Also replies 'C' and the extra that there is (another than was expected): merge again.
-- Error: 'bytes', bytes that it would take more, bytes in use.
-- keys: s d k v q bq bx uz ux u0 u1
-- args: clock mid bounds key expected extra
-- flags:
-- uses: pieces answers items
local answer = kept() or expired() or answers_full()
if answer then
  return answer
end
local id8, row = find(key)
if row then
  local stored = call('HGET', v, id8 .. 'x')
  if (stored and '=' .. stored or '') ~= expected then
    return {'C', stored}
  end
  local status, beat, ends, at, created, orphaned, size, extra_size = parse(HEAD, row)
  local growth = math.max(#extra - 1, 0) - math.max(extra_size - 1, 0)
  if growth > 0 and bytes + rbytes + growth > bytes_room then
    if rdue > 0 and now >= rdue then
      return {'D'}
    end
    return {'E', 'bytes', number(growth), number(bytes + rbytes)}
  end
  if extra == '' then
    call('HDEL', v, id8 .. 'x')
  else
    call('HSET', v, id8 .. 'x', sub(extra, 2))
  end
  call('HSET', d, id8, pack(HEAD, status, beat, ends, at, created, orphaned, size, #extra) .. sub(row, HEAD_SIZE + 1))
  bytes = bytes + growth
end
local reply = {'='}
keep(reply, 0)
save()
return reply
