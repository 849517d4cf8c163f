-- GET (commands.md §4.3). Cells: stored payload, extra or none; no cell when there is no item.
-- keys: s d k v
-- args: clock key
-- flags: no-writes
-- uses: items
local answer = expired()
if answer then
  return answer
end
local id8 = id_of(key)
local texts = id8 and call('HMGET', v, id8, id8 .. 'x')
if not texts or not texts[1] then
  return {'='}
end
return {'=', texts[1], texts[2]}
