-- Looks for a kept answer alone: what a full engine refuses to run may have been answered before it was full.
-- 'N' when there is none.
-- keys: s ux u0 u1
-- args: clock mid bounds
-- flags: no-writes
-- uses: answers
return kept() or {'N'}
