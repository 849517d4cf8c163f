-- Putting a new pending item (commands.md §4.1).
--
-- Arguments: `fixed` holds what is parsed here; `owner` is the process id after one byte or empty, `external` likewise;
-- `orphaned_s` may be empty; `payload` is stored; `lowest` is the lowest id / number of shards that may be given.
local lowest, shard, prefix_size, payload_size, prio8, lane, qlane, exclusive = parse('>I8I4I4I8c8c16c16c1', fixed)

-- What to reply when one more item of these bytes does not fit; nil when it does.
local function queue_full()
  local size = bytes + rbytes + results * 512
  if items < items_room and size + payload_size <= bytes_room then
    return nil
  end
  if rdue > 0 and now >= rdue then
    return {'D'}
  end
  if items >= items_room then
    return {'E', 'items', number(items)}
  end
  return {'E', 'bytes', number(bytes + rbytes)}
end

-- Put the item: its id8, its id, its row. The caller has looked for room and adopted the pieces.
local function insert()
  local id = next_number(lowest, shards) * shards + shard
  local id8 = pack('>I8', id)
  local orphaned, ends = 0, now + life_ms
  if orphaned_s ~= '' then
    orphaned = now + orphaned_s * 1000
    ends = orphaned + orphaned_life_ms
  end
  local extra_size = 0
  local row = pack(ITEM, 'p', 0, ends, ends, now, orphaned, payload_size, extra_size, prio8, lane, qlane, #path,
    prefix_size, #owner, #external, exclusive, payload) .. path .. sub(owner, 2) .. sub(external, 2)
  call('HSET', d, id8, row)
  call('HSET', k, path, id8)
  call('HSET', v, id8, payload)
  call('ZADD', p, 0, lane .. prio8 .. id8)
  if orphaned > 0 then
    call('ZADD', o, 0, qlane .. pack('>I8', orphaned) .. id8)
  else
    call('ZADD', c, 0, qlane .. pack('>I8', now) .. id8)
  end
  call('ZADD', e, 0, pack('>I8', ends) .. id8)
  local prefix = sub(path, 1, prefix_size)
  local pending, running = counts(prefix)
  set_counts(prefix, pending + 1, running)
  items = items + 1
  bytes = bytes + payload_size
  due = earlier(due, ends)
  return id8, id, row, pending + 1, running
end
