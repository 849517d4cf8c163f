-- Evicts cache entries of this shard until `keys_over` of them and `bytes_over` bytes have gone, or `most`: first large
-- ones about to end, then each time the lowest of a sample by `policy`: 'lru', 'lfu' or 'ttl' (commands.md §5).
-- Cells: entries evicted, their bytes.
-- keys: s C ch ci ce bq bx hc
-- args: clock policy keys_over bytes_over most seed decay_ms large_bytes soon_ms
-- flags: allow-oom
-- uses: pieces cache cache_uses
math.randomseed(tonumber(seed))
local keys_left, bytes_left, most_left = tonumber(keys_over), tonumber(bytes_over), tonumber(most)
local gone, gone_bytes = 0, 0

local function evict(path, row)
  local size = remove_entry(path, row)
  gone, gone_bytes = gone + 1, gone_bytes + size
  keys_left, bytes_left, most_left = keys_left - 1, bytes_left - size, most_left - 1
end

local function wants_more()
  return most_left > 0 and (keys_left > 0 or bytes_left > 0)
end

local soon = call('ZRANGE', ce, '-', '(' .. pack('>I8', now + soon_ms + 1), 'BYLEX', 'LIMIT', 0, most)
for at = 1, #soon do
  local path = sub(soon[at], 9)
  local row = call('HGET', ch, path)
  if most_left > 0 and parse('>I8', row, 17) > tonumber(large_bytes) then
    evict(path, row)
  end
end

-- How soon an entry leaves by the policy, the soonest having the lowest number.
local function rank(row)
  local ends, _, _, used, uses = parse(ENTRY, row)
  if ends > 0 and ends <= now then
    return -1, used
  elseif policy == 'ttl' then
    return ends == 0 and math.huge or ends, used
  elseif policy == 'lfu' then
    return decayed(uses, used, tonumber(decay_ms)), used
  end
  return used, used
end

while policy == 'ttl' and wants_more() do
  local next_ones = call('ZRANGE', ce, '-', '+', 'BYLEX', 'LIMIT', 0, 1)
  if #next_ones == 0 then
    break
  end
  local path = sub(next_ones[1], 9)
  evict(path, call('HGET', ch, path))
end
while wants_more() and entries > 0 do
  local sample = call('HRANDFIELD', ch, 16, 'WITHVALUES')
  local best, lowest, lowest_used = 1, nil, nil
  for at = 1, #sample, 2 do
    local at_rank, used = rank(sample[at + 1])
    if not lowest or at_rank < lowest or (at_rank == lowest and used < lowest_used) then
      best, lowest, lowest_used = at, at_rank, used
    end
  end
  evict(sample[best], sample[best + 1])
end
if gone > 0 then
  save()
end
return {'=', number(gone), number(gone_bytes)}
