-- Deletes the pieces of a large value that `sweep` named. `member` is that of bx; the keys from the third on are theirs.
-- No cells.
-- keys: s bx
-- args: clock member
-- flags: allow-oom
-- uses:
for at = PIECES, #KEYS do
  call('UNLINK', KEYS[at])
end
call('ZREM', bx, member)
return {'='}
