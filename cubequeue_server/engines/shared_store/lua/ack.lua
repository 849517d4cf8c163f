-- ACK (commands.md §4.10): ends an item, stores its result, tells those who wait for it. `value` is stored, or empty for
-- NULL. A result that a request by path waits for is for such requests alone; one that a request by id waits for is
-- taken at once.
-- Cells: '1', or '0' when there is no item. After them: the prefix of the item.
-- Error: 'room', bytes that it would take more, bytes in use; 'P' as ADD.
-- keys: s d k v p a hb c o e q r rk rv rx w wo wx bq bx hq uz ux u0 u1
-- args: clock mid bounds key value channel
-- flags: allow-oom
-- uses: pieces answers items results waits
local answer = kept() or expired() or answers_full()
if answer then
  return answer
end
local id8, row = find(key)
if not row then
  local reply = {'=', '0'}
  if mid ~= '' then
    keep(reply, 1)
    save()
  end
  return reply
end
if value ~= '' then
  local _, _, _, _, _, _, size, extra_size = parse(HEAD, row)
  local growth = size_of(value) - size - math.max(extra_size - 1, 0)
  if growth > 512 and bytes + rbytes + growth > bytes_room then
    if rdue > 0 and now >= rdue then
      return {'D'}
    end
    return {'E', 'room', number(growth), number(bytes + rbytes)}
  end
  if not adopt(value, PIECES, hq) then
    return {'P'}
  end
end
local prefix, path, external, external_size = remove(id8, row)
local id_field, path_field = 'i' .. id8, 'p' .. path
local waiting = call('HMGET', w, id_field, path_field)
local by_id, by_path = waited_until(waiting[1]), waited_until(waiting[2])
if by_id > 0 or by_path > 0 then
  stamp = stamp + 1
  local latest = math.max(by_id, by_path)
  local outcome
  if value == '' then
    outcome = pack(OUTCOME, stamp, latest, 'n', 0)
  else
    outcome = pack(OUTCOME, stamp, latest, 'v', external_size) .. external .. value
    if is_large(value) then
      hold(nonce_of(value))
    end
  end
  call('HSET', wo, id_field, outcome)
  call('ZADD', wx, 0, pack('>I8', latest) .. 'o' .. id_field)
  if by_path > 0 then
    local outcomes = outcomes_left(call('HGET', wo, path_field) or '')
    outcomes[#outcomes + 1] = pack('>I8I8', stamp, latest) .. id8
    call('HSET', wo, path_field, table.concat(outcomes, '', math.max(#outcomes - MOST_OUTCOMES + 1, 1)))
    call('ZADD', wx, 0, pack('>I8', latest) .. 'o' .. path_field)
  end
  call('HDEL', w, id_field, path_field)
  call('SPUBLISH', channel, id8 .. path)
end
if value ~= '' then
  if by_path > 0 then
    let_go(value, hq)
  else
    put_result(id8, path, external, external_size, value, by_id > 0 and 't' or 'v')
  end
end
local reply = {'=', '1'}
keep(reply, 1)
save()
reply[3] = prefix
return reply
