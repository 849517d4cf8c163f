-- Forgets a dead generation of kept answers that `sweep` named. `member` is that of uz, u0 the key in it. No cells.
-- keys: s bq bx uz u0
-- args: clock member
-- flags: allow-oom
-- uses: pieces
local generation = call('HGET', u0, '')
if generation and sub(generation, 1, 8) == sub(member, 1, 8) then
  local _, held = parse('>I8I8', generation)
  abytes = math.max(abytes - held, 0)
  local nonces = call('HGET', u0, 'R')
  if nonces then
    for at = 1, #nonces, 16 do
      release(sub(nonces, at, at + 15))
    end
  end
  call('UNLINK', u0)
  save()
end
call('ZREM', uz, member)
return {'='}
