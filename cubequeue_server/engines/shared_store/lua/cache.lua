-- Cache entries. ch: path -> end8 (0: never), order8, bytes of the value8, last use8, uses1, kind1, lane, nonce16 of a
-- large one. C: path -> end8, stored value: so that a reader needs no script. An entry counts its path, its value and
-- 160 bytes. `lane` is the hash of the prefix.
local ENTRY, ENTRY_SIZE = '>I8I8I8I8Bc1c16', 50

local function weight(path, size)
  return #path + size + 160
end

local function let_go_of(row)
  if #row > ENTRY_SIZE then
    local nonce = sub(row, ENTRY_SIZE + 1)
    call('SREM', hc, nonce)
    release(nonce)
  end
end

-- Remove the entry with this row; what it counted.
local function remove_entry(path, row)
  local ends, order, size = parse(ENTRY, row)
  call('HDEL', C, path)
  call('HDEL', ch, path)
  call('ZREM', ci, sub(row, 35, 50) .. sub(row, 9, 16) .. path)
  if ends > 0 then
    call('ZREM', ce, sub(row, 1, 8) .. path)
  end
  let_go_of(row)
  entries = entries - 1
  cbytes = cbytes - weight(path, size)
  return weight(path, size)
end

-- The row of a live entry; nil when there is none. One that has ended is removed.
local function live_entry(path)
  local row = call('HGET', ch, path)
  if not row then
    return nil
  end
  local ends = parse('>I8', row)
  if ends > 0 and ends <= now then
    remove_entry(path, row)
    return nil
  end
  return row
end

-- Put an entry, in a script with `bounds` (answers.lua); `before` is the row of a live one in its place, or nil.
local function put_entry(path, lane, stored, ends, lowest, before)
  local order, size, before_ends = nil, size_of(stored), nil
  if before then
    local before_size
    before_ends, order, before_size = parse(ENTRY, before)
    if before_ends > 0 and before_ends ~= ends then
      call('ZREM', ce, sub(before, 1, 8) .. path)
    end
    let_go_of(before)
    cbytes = cbytes - weight(path, before_size)
  else
    order = next_number(lowest, shards)
    call('ZADD', ci, 0, lane .. pack('>I8', order) .. path)
    entries = entries + 1
  end
  local row = pack(ENTRY, ends, order, size, now, 10, stored, lane)
  call('HSET', ch, path, is_large(stored) and row .. nonce_of(stored) or row)
  call('HSET', C, path, pack('>I8', ends) .. stored)
  if ends > 0 then
    if before_ends ~= ends then
      call('ZADD', ce, 0, pack('>I8', ends) .. path)
    end
    cdue = earlier(cdue, ends)
  end
  cbytes = cbytes + weight(path, size)
end
