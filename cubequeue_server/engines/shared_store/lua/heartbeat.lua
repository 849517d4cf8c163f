-- HEARTBEAT (commands.md §4.7). No cells.
-- keys: s d k hb
-- args: clock key
-- flags: allow-oom
-- uses: items
local answer = expired()
if answer then
  return answer
end
local id8, row = find(key)
if row then
  local status, beat, ends, at, created, orphaned, size, extra_size = parse(HEAD, row)
  if status == 'a' and beat ~= now then
    local qlane = sub(row, 74, 89)
    call('ZREM', hb, qlane .. pack('>I8', beat) .. id8)
    call('ZADD', hb, 0, qlane .. pack('>I8', now) .. id8)
  end
  if beat ~= now then
    call('HSET', d, id8, pack(HEAD, status, now, ends, at, created, orphaned, size, extra_size)
      .. sub(row, HEAD_SIZE + 1))
  end
end
return {'='}
