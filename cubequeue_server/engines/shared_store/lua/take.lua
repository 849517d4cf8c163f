-- The outcome that several requests of one server wait for (waits.lua), and their kept answers.
-- `requests` is of each its stamp8 and 1 byte: '1' when it has a message id and a connection: its id stands in ARGV,
-- and its two keys in KEYS, in the same order from `mid1` and `u1` on.
-- Cells: stored value or none for NULL, id, external id or none; after them the stamp of the outcome, which is for
-- requests with a lower one. No cell when there is none.
-- keys: s wo bq bx uz ux
-- args: clock bounds field requests
-- flags: allow-oom
-- uses: one_by_one pieces answers waits
local lowest
for at = 1, #requests, 9 do
  local began = parse('>I8', requests, at)
  lowest = math.min(lowest or began, began)
end
local reply, stored, stamped = outcome_of(field, lowest)
if not reply then
  return {'='}
end
local next_key, next_mid, sharers = 7, 5, #requests / 9
for at = 1, #requests, 9 do
  local began, is_keyed = parse('>I8c1', requests, at)
  if is_keyed == '1' then
    mid, u0, u1 = ARGV[next_mid], KEYS[next_key], KEYS[next_key + 1]
    next_key, next_mid = next_key + 2, next_mid + 1
    if stamped > began and not kept() then
      forget_began()
      keep(reply, 3, stored, sharers)
    end
  end
end
save()
reply[5] = number(stamped)
return reply
