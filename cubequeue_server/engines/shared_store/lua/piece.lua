-- Puts a piece of a result, also into an engine that is full: a result takes the place of its item. No cells.
-- keys: s piece
-- args: clock value ttl_ms
-- flags: allow-oom
-- uses:
call('SET', piece, value, 'PX', ttl_ms)
return {'='}
