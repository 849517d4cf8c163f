-- ADD_AND_RETRIEVE (commands.md §4.2): ADD, and the claim of the item, in one step.
-- Cells: id, '1' if it was added, pending items, keys of the active ones or none, stored payload or none, extra or none.
-- After them: how long a claimed item had waited, in ms.
-- Errors: 'owner' when only a caller with a process id may claim it. Replies 'P' as ADD does.
-- keys: s m d k v p a hb c o e q bq bx hq uz ux u0 u1
-- args: clock mid bounds fixed path owner external orphaned_s payload caller peer concurrency
-- flags:
-- uses: pieces answers items insert claim
local answer = kept() or expired() or answers_full()
if answer then
  return answer
end
local id8, added = call('HGET', k, path), '0'
local _, row, pending, running
if id8 then
  row = call('HGET', d, id8)
  pending, running = counts(sub(path, 1, prefix_size))
else
  answer = queue_full()
  if answer then
    return answer
  end
  -- A new item is its adder's, so a claim is refused to none: nothing is written ahead of a refusal.
  if not adopt(payload, PIECES, hq) then
    return {'P'}
  end
  id8, _, row, pending, running = insert()
  added = '1'
end
local claims = sub(row, 1, 1) == 'p' and pending + running - 1 < tonumber(concurrency)
if claims then
  claims = may_claim(row)
  if claims == nil then
    return {'E', 'owner'}
  end
end
local keys = active_keys(qlane)
local stored, extra, waited
if claims then
  stored, extra, pending, waited = claim(id8, row, keys)
end
local names = #keys > 0 and table.concat(keys, ',')
local reply = {'=', number(parse('>I8', id8)), added, number(pending), names, stored or false, extra or false}
keep(reply, 6, stored)
save()
if claims then
  reply[8] = number(waited)
end
return reply
