-- CLEAR of queue, cache or both (commands.md §4.12, §5, §6): `which` holds 'q' and 'c'. Ids go on, kept answers stay,
-- those who wait go on waiting, and what came of it for them stays. No cells.
-- keys: s d k v p a hb c o e q r rk rv rx C ch ci ce bq bx hq hc hz uz ux u0 u1
-- args: clock mid bounds which
-- flags: allow-oom
-- uses: pieces answers
local answer = kept() or answers_full()
if answer then
  return answer
end
-- Large values lose their holder; there may be ten thousands, so a sweep lets go of them.
local function orphan(holder)
  if call('EXISTS', holder) == 1 then
    if call('EXISTS', hz) == 1 then
      call('SUNIONSTORE', hz, hz, holder)
      call('UNLINK', holder)
    else
      call('RENAME', holder, hz)
    end
  end
end
if string.find(which, 'q', 1, true) then
  call('UNLINK', d, k, v, p, a, hb, c, o, e, q, r, rk, rv, rx)
  orphan(hq)
  due, rdue, items, active, bytes, results, rbytes = 0, 0, 0, 0, 0, 0, 0
end
if string.find(which, 'c', 1, true) then
  call('UNLINK', C, ch, ci, ce)
  orphan(hc)
  cdue, entries, cbytes = 0, 0, 0
end
local reply = {'='}
keep(reply, 0)
save()
return reply
