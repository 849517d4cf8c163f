-- RESULT_BLOCKING (commands.md §4.11): what RESULT gives, or a place among those who wait.
-- `field` is 'i' .. id8 or 'p' .. path. `wait_ms` is how long `server` (8 bytes) waits, 0 for no longer, 'look' for not at all. `began` is the
-- stamp of a request that waits already, else empty. With `leave`
-- 'all' the server has no more requests that wait here; with a stamp all that do began to wait by then: it leaves if they
-- have their outcome, of which it has not heard.
-- Cells: stored value or none for NULL, id, external id or none; no cell when there is none and it does not wait.
-- 'W' and a stamp: it waits. With an empty `wait_ms` the server only leaves, and asks for nothing.
-- keys: s r rk rv w wo wx bq bx uz ux u0 u1
-- args: clock mid bounds field wait_ms server began leave
-- flags: allow-oom
-- uses: pieces answers items results waits
local answer = kept() or expired()
if answer then
  return answer
end
local name, wrote = sub(field, 2), false
local function entries_of_others()
  local row, others = call('HGET', w, field) or '', {}
  local mine = 0
  for at = 1, #row, 16 do
    local deadline = parse('>I8', row, at + 8)
    if sub(row, at, at + 7) == server then
      mine = deadline
    elseif deadline > now then
      others[#others + 1] = sub(row, at, at + 15)
    end
  end
  return table.concat(others), mine
end
if leave ~= '' and (leave == 'all' or outcome_of(field, tonumber(leave))) then
  local others, mine = entries_of_others()
  if mine > 0 then
    wrote = true
    if others == '' then
      call('HDEL', w, field)
    else
      call('HSET', w, field, others)
    end
  end
end
if wait_ms == '' then
  if wrote then
    save()
  end
  return {'='}
end
local reply, stored
local since = tonumber(began) or began_before()
if since then
  reply, stored = outcome_of(field, since)
end
if not reply then
  answer = answers_full()
  if byte(field) == 105 then
    local row = result_of(name)
    if row and (wait_ms == 'look' or byte(row) == 116) then
      if wrote then
        save()
      end
      return (result_reply(name, row))  -- it may be read again, by anybody
    elseif row and not answer then
      reply, stored = result_reply(name, row)
      take(name, row)  -- as one that the ACK released: the next RESULT by path must not get it
    end
  else
    local id8, row = untaken(name)
    if id8 and not answer then
      reply, stored = result_reply(id8, row)
      take(id8, row)
    end
  end
end
if reply then
  forget_began()
  keep(reply, 3, stored)
  save()
  return reply
end
if answer then
  if wrote then
    save()
  end
  return answer
end
local wait = tonumber(wait_ms) or 0
if wait == 0 then
  if since then
    forget_began()
  end
  if wrote then
    save()
  end
  return {'='}
end
local others, mine = entries_of_others()
local deadline = math.max(now + wait, mine)
call('HSET', w, field, others .. server .. pack('>I8', deadline))
if deadline > mine then
  call('ZADD', wx, 0, pack('>I8', deadline) .. 'w' .. field)
end
if not since then
  note_began()
end
save()
return {'W', number(since or stamp)}
