-- Keeps the answer to message `mid` for longer: nobody was there to take it (decisions: 600 s). No cells.
-- keys: s ux uxz bq bx u0 u1
-- args: clock mid keep_ms
-- flags: allow-oom
-- uses: pieces
for _, key in ipairs({u0, u1}) do
  local row = call('HGET', key, mid)
  if row then
    local answered, size, nonce_size = parse('>I8I4B', row)
    local begun, held = parse('>I8I8', call('HGET', key, ''))
    local field = sub(u0, #s + 3) .. '\0' .. mid
    call('HDEL', key, mid)
    if nonce_size > 0 then
      call('HSET', key, 'R', without(call('HGET', key, 'R'), sub(row, 14, 29)))
    end
    call('HSET', key, '', pack('>I8I8', begun, math.max(held - size, 0)))
    if call('HSET', ux, field, row) == 1 then
      undelivered = undelivered + 1
    end
    call('ZADD', uxz, 0, pack('>I8', answered + keep_ms) .. field)
    save()
  end
end
return {'='}
