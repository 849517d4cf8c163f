-- How queues of this shard stand. ARGV from the second on are qlane and prefix of each.
-- Cells: of each pending, active, creation of the oldest pending item and oldest heartbeat, each in ms or none.
-- keys: s d hb c o q
-- args: clock
-- flags: no-writes
-- uses: items
local reply = {'=', number(now)}
for at = 2, #ARGV do
  local qlane, prefix = sub(ARGV[at], 1, 16), sub(ARGV[at], 17)
  local pending, running = counts(prefix)
  local function first(index)
    return call('ZRANGE', index, '[' .. qlane, beyond(qlane), 'BYLEX', 'LIMIT', 0, 1)[1]
  end
  local oldest, beat = nil, first(hb)
  local waiting, orphan = first(c), first(o)
  if waiting then
    oldest = parse('>I8', waiting, 17)
  end
  if orphan then
    local _, _, _, _, created = parse(HEAD, call('HGET', d, sub(orphan, 25)))
    oldest = math.min(oldest or created, created)
  end
  reply[#reply + 1] = number(pending)
  reply[#reply + 1] = number(running)
  reply[#reply + 1] = oldest and number(oldest) or false
  reply[#reply + 1] = beat and number((parse('>I8', beat, 17))) or false
end
return reply
