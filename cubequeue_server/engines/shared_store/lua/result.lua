-- RESULT (commands.md §4.11). `key` is 'i' .. id8 or 'p' .. path, `external` an external id after one byte or empty. By
-- path it is taken, unless the external id is that of a result of this path.
-- Cells: stored value, id, external id or none; no cell when there is none.
-- Error: 'external', the external id of the result after one byte or empty.
-- keys: s r rk rv bq bx uz ux u0 u1
-- args: clock mid bounds key external
-- flags: allow-oom
-- uses: pieces answers items results
local answer = kept() or expired()
if answer then
  return answer
end
local name = sub(key, 2)
if byte(key) == 105 then
  local row = result_of(name)
  if not row then
    return {'='}
  end
  local reply = result_reply(name, row)
  if external ~= '' and sub(external, 2) ~= reply[4] then
    return {'E', 'external', reply[4] and '=' .. reply[4] or ''}
  end
  return reply
end
if external ~= '' then
  local id8 = call('HGET', rk, external_field(name, sub(external, 2)))
  local row = id8 and result_of(id8)
  if row then
    return (result_reply(id8, row))
  end
end
local id8, row = untaken(name)
if not id8 then
  return {'='}
end
answer = answers_full()
if answer then
  return answer
end
local reply, stored = result_reply(id8, row)
take(id8, row)
keep(reply, 3, stored)
save()
return reply
