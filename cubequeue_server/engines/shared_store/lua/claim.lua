-- Claiming an item (commands.md §4.9): from pending to active, with a first heartbeat.

-- Whether the caller is the one that an EXCLUSIVE item demands: true, false, or nil when only a process id could be.
-- `caller` is the process id after one byte, or empty.
local function may_claim(row)
  local path_size, _, process_size, _, exclusive = parse('>I4I4I4I4c1', row, 90)
  if exclusive == '0' then
    return true
  end
  if caller == '' then
    return nil
  end
  return sub(row, ITEM_SIZE + path_size + 1, ITEM_SIZE + path_size + process_size - 1) == sub(caller, 2)
end

-- Claim a pending item for `caller` at the address `peer`. `keys` are those of the active items, to which its own is
-- added. Its payload and its extra, and how many are pending now.
local function claim(id8, row, keys)
  local _, _, ends, at, created, orphaned, size, extra_size, prio8, lane, qlane, path_size, prefix_size =
    parse(ITEM, row)
  local path = sub(row, ITEM_SIZE + 1, ITEM_SIZE + path_size)
  local key = key_of(path, prefix_size)
  local texts = call('HMGET', v, id8, id8 .. 'x')
  local head = pack(HEAD, 'a', now, ends, at, created, orphaned, size, extra_size)
  call('HSET', d, id8, head .. sub(row, HEAD_SIZE + 1) .. pack('>I4', #caller) .. sub(caller, 2) .. peer)
  call('ZREM', p, lane .. prio8 .. id8)
  if orphaned > 0 then
    call('ZREM', o, qlane .. pack('>I8', orphaned) .. id8)
  else
    call('ZREM', c, qlane .. pack('>I8', created) .. id8)
  end
  call('ZADD', a, 0, qlane .. id8 .. key)
  call('ZADD', hb, 0, qlane .. pack('>I8', now) .. id8)
  local prefix = sub(path, 1, prefix_size)
  local pending, running = counts(prefix)
  set_counts(prefix, pending - 1, running + 1)
  active = active + 1
  keys[#keys + 1] = key
  return texts[1], texts[2], pending - 1, math.max(now - created, 0)
end
