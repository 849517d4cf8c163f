-- CANCEL (commands.md §4.6): removes an item, wakes nobody. Cells: stored payload, extra or none; no cell when there
-- is no item. After them: its row, for the statistics.
-- keys: s d k v p a hb c o e q bq bx hq uz ux u0 u1
-- args: clock mid bounds key
-- flags: allow-oom
-- uses: pieces answers items
local answer = kept() or expired() or answers_full()
if answer then
  return answer
end
local id8, row = find(key)
local reply = {'='}
if not row then
  if mid == '' then
    return reply
  end
  keep(reply, 0)
  save()
  return reply
end
local texts = call('HMGET', v, id8, id8 .. 'x')
reply = {'=', texts[1], texts[2]}
keep(reply, 2, texts[1])
remove(id8, row)
save()
reply[4] = row
return reply
