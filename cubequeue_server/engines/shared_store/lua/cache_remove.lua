-- CACHE REMOVE (commands.md §5). No cells.
-- keys: s C ch ci ce bq bx hc uz ux u0 u1
-- args: clock mid bounds path
-- flags: allow-oom
-- uses: pieces answers cache
local answer = kept() or answers_full()
if answer then
  return answer
end
local row = call('HGET', ch, path)
if row then
  remove_entry(path, row)
end
local reply = {'='}
if row or mid ~= '' then
  keep(reply, 0)
  save()
end
return reply
