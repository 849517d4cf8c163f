-- Uses of cache entries that a server has seen by GET: ARGV from the sixth on are how often2, and the path.
-- Counters of LFU rise with a chance that falls as they grow, and fall by one for each `decay_ms` without a use
-- (commands.md §5, "LFU"). No cells.
-- keys: s ch
-- args: clock seed log_factor decay_ms initial
-- flags: allow-oom
-- uses: cache_uses
math.randomseed(tonumber(seed))
for at = 6, #ARGV do
  local times, path = parse('>I2', ARGV[at]), sub(ARGV[at], 3)
  local row = call('HGET', ch, path)
  if row then
    local used, uses = parse('>I8B', row, 25)
    uses = decayed(uses, used, tonumber(decay_ms))
    for _ = 1, math.min(times, 300) do
      local excess = uses - initial
      if excess <= 0 or (uses < 255 and math.random() * (1 + log_factor * excess) < 1) then
        uses = uses + 1
      end
    end
    call('HSET', ch, path, sub(row, 1, 24) .. pack('>I8B', now, math.min(uses, 255)) .. sub(row, 34))
  end
end
return {'='}
