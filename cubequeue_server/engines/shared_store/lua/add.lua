-- ADD (commands.md §4.1): puts a pending item under an unknown path; a known one stays as it is.
-- Cells: id, '1' if it was added, pending items of the prefix.
-- Also replies 'P' when a piece of the payload has gone: put them again.
-- keys: s m d k v p c o e q bq bx hq uz ux u0 u1
-- args: clock mid bounds fixed path owner external orphaned_s payload
-- flags:
-- uses: pieces answers items insert
local answer = kept() or expired()
if answer then
  return answer
end
local known = call('HGET', k, path)
local reply
if known then
  reply = {'=', number(parse('>I8', known)), '0', number((counts(sub(path, 1, prefix_size))))}
  if mid == '' then
    return reply
  end
  answer = answers_full()
  if answer then
    return answer
  end
else
  answer = answers_full() or queue_full()
  if answer then
    return answer
  end
  if not adopt(payload, PIECES, hq) then
    return {'P'}
  end
  local _, id, _, pending = insert()
  reply = {'=', number(id), '1', number(pending)}
end
keep(reply, 3)
save()
return reply
