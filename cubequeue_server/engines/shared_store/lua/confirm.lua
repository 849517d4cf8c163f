-- Drops answers of one connection that are known to have arrived, because room is short. ARGV from the second on are
-- their message ids. Cells: the bytes of all kept answers of the shard now.
-- keys: s ux uxz bq bx u0 u1
-- args: clock
-- flags: allow-oom
-- uses: pieces
for _, key in ipairs({u0, u1}) do
  local generation = call('HGET', key, '')
  if generation then
    local begun, held = parse('>I8I8', generation)
    local before = held
    for first = 2, #ARGV, 1000 do
      local last = math.min(first + 999, #ARGV)
      local rows = call('HMGET', key, unpack(ARGV, first, last))
      for at = 1, #rows do
        if rows[at] then
          local size, nonce_size = parse('>I4B', rows[at], 9)
          held = held - size
          call('HDEL', key, ARGV[first + at - 1])
          if nonce_size > 0 then
            local nonce = sub(rows[at], 14, 29)
            call('HSET', key, 'R', without(call('HGET', key, 'R'), nonce))
            release(nonce)
          end
        end
      end
    end
    if held ~= before then
      abytes = math.max(abytes - before + held, 0)
      call('HSET', key, '', pack('>I8I8', begun, math.max(held, 0)))
    end
  end
end
save()
return {'=', number(abytes)}
