-- RETRIEVE (commands.md §4.9): claims the item of a path.
-- Cells: stored payload, extra or none, pending items after, keys of the active ones with its own last, id.
-- After them: how long it had waited, in ms. An item that cannot be claimed: 'N', pending items, keys of the active
-- ones or none; nothing is written then. Error: 'owner' when only a caller with a process id may claim it.
-- keys: s d k v p a hb c o q bq bx hq uz ux u0 u1
-- args: clock mid bounds path prefix_size qlane caller peer concurrency
-- flags: allow-oom
-- uses: pieces answers items claim
local answer = kept() or expired() or answers_full()
if answer then
  return answer
end
local id8 = call('HGET', k, path)
local row = id8 and call('HGET', d, id8)
local pending, running = counts(sub(path, 1, tonumber(prefix_size)))
local claims = row and sub(row, 1, 1) == 'p' and running < tonumber(concurrency)
if claims then
  claims = may_claim(row)
  if claims == nil then
    return {'E', 'owner'}
  end
end
local keys = running > 0 and active_keys(qlane) or {}
if not claims then
  return {'N', number(pending), #keys > 0 and table.concat(keys, ',')}
end
local stored, extra, left, waited = claim(id8, row, keys)
local reply = {'=', stored, extra or false, number(left), table.concat(keys, ','), number(parse('>I8', id8))}
keep(reply, 5, stored)
save()
reply[7] = number(waited)
return reply
