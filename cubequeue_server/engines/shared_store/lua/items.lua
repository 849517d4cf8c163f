-- Queue items. d: id8 -> status ('p' pending, 'a' active), heartbeat (0: none), end, end in `e`, created, orphaned
-- (0: none), bytes of the payload, bytes of the extra + 1 (0: none), prio8, lane, qlane, bytes of path, of prefix, of
-- process id + 1 (0: none), of external id + 1 (0: none), '1' if EXCLUSIVE, kind of the stored payload; then path,
-- process id, external id; of an active one then who claimed it: bytes of process id + 1 (0: none), process id, peer.
local ITEM, ITEM_SIZE = '>c1I8I8I8I8I8I4I4c8c16c16I4I4I4I4c1c1', 107
local HEAD, HEAD_SIZE = '>c1I8I8I8I8I8I4I4', 49  -- what changes, and what is beside it

-- What stands behind the last colon of a path.
local function key_of(path, prefix_size)
  if byte(path, prefix_size + 1) == 58 then
    return sub(path, prefix_size + 2)
  end
  return path
end

-- When an item of this shard has expired nothing may be told of it: the reply that asks for a sweep, or nil.
local function expired()
  if due > 0 and now >= due then
    return {'D'}
  end
  return nil
end

-- The id8 that a key names: 'i' .. id8, or 'p' .. path.
local function id_of(key)
  if byte(key) == 105 then
    return sub(key, 2)
  end
  return call('HGET', k, sub(key, 2))
end

-- The id8 and the row of the item that a key names; nil when there is none.
local function find(key)
  local id8 = id_of(key)
  if not id8 then
    return nil
  end
  return id8, call('HGET', d, id8)
end

-- Pending and active items of a prefix.
local function counts(prefix)
  local row = call('HGET', q, prefix)
  if row then
    return parse('>I4I4', row)
  end
  return 0, 0
end

local function set_counts(prefix, pending, running)
  if pending == 0 and running == 0 then
    call('HDEL', q, prefix)
  else
    call('HSET', q, prefix, pack('>I4I4', pending, running))
  end
end

-- Take an item out of everything. Its prefix, path, the external id with its size + 1, and its payload's stored value
-- if that is a large one.
local function remove(id8, row)
  local status, beat, _, at, created, orphaned, size, extra_size, prio8, lane, qlane, path_size, prefix_size,
    process_size, external_size, _, kind = parse(ITEM, row)
  local path = sub(row, ITEM_SIZE + 1, ITEM_SIZE + path_size)
  local prefix = sub(path, 1, prefix_size)
  if kind == 'T' or kind == 'B' then
    local stored = call('HGET', v, id8)
    if stored then
      let_go(stored, hq)
    end
  end
  call('HDEL', d, id8)
  call('HDEL', k, path)
  if extra_size > 0 then
    call('HDEL', v, id8, id8 .. 'x')
    bytes = bytes - extra_size + 1
  else
    call('HDEL', v, id8)
  end
  bytes = bytes - size
  items = items - 1
  call('ZREM', e, pack('>I8', at) .. id8)
  local pending, running = counts(prefix)
  if status == 'p' then
    call('ZREM', p, lane .. prio8 .. id8)
    if orphaned > 0 then
      call('ZREM', o, qlane .. pack('>I8', orphaned) .. id8)
    else
      call('ZREM', c, qlane .. pack('>I8', created) .. id8)
    end
    set_counts(prefix, pending - 1, running)
  else
    call('ZREM', a, qlane .. id8 .. key_of(path, prefix_size))
    call('ZREM', hb, qlane .. pack('>I8', beat) .. id8)
    active = active - 1
    set_counts(prefix, pending, running - 1)
  end
  local process_end = ITEM_SIZE + path_size + math.max(process_size - 1, 0)
  return prefix, path, sub(row, process_end + 1, process_end + math.max(external_size - 1, 0)), external_size
end

-- The keys of all active items of a prefix in the order of their ids.
local function active_keys(qlane)
  local members = call('ZRANGE', a, '[' .. qlane, beyond(qlane), 'BYLEX')
  for at = 1, #members do
    members[at] = sub(members[at], 25)
  end
  return members
end
