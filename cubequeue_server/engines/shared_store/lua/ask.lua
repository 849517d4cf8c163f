-- Whether there is something for requests that wait: after a link was lost, and now and then in any case.
-- ARGV from the third on: of each request its field after its stamp8. `server` as in wait.lua.
-- Cells: of each '1' when it should ask for itself (there is an outcome or a result, or nobody knows that it waits),
-- else '0'.
-- keys: s r rk w wo
-- args: clock server
-- flags: no-writes
-- uses: results waits
local reply = {'='}
for at = 3, #ARGV do
  local began, field = parse('>I8', ARGV[at]), sub(ARGV[at], 9)
  local is_there = false
  local outcome = call('HGET', wo, field)
  local newest = outcome and byte(field) == 112 and #outcome - 23 or 1
  if outcome and parse('>I8', outcome, newest) > began then
    is_there = true
  elseif byte(field) == 105 then
    is_there = result_of(sub(field, 2)) ~= nil
  else
    is_there = untaken(sub(field, 2)) ~= nil
  end
  if not is_there then
    is_there = true
    local row = call('HGET', w, field) or ''
    for place = 1, #row, 16 do
      if sub(row, place, place + 7) == server then
        is_there = false
      end
    end
  end
  reply[at - 1] = is_there and '1' or '0'
end
return reply
