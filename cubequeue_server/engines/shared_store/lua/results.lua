-- Results. r: id8 -> 'v' visible or 't' taken, end8, bytes of the path, bytes of the external id + 1 (0: none), path,
-- external id. The value lies in rv: one that is taken is not written again.
local RESULT, RESULT_SIZE = '>c1I8I4I4', 17

local function external_field(path, external)
  return 'x' .. pack('>I4', #path) .. path .. external
end

-- The row of a result that has not ended; nil when there is none.
local function result_of(id8)
  local row = call('HGET', r, id8)
  if row and parse('>I8', row, 2) > now then
    return row
  end
  return nil
end

-- The newest result of a path that no reader by path has had: its id8 and its row, or nil.
local function untaken(path)
  local id8 = call('HGET', rk, 'p' .. path)
  local row = id8 and result_of(id8)
  if row and byte(row) == 118 then
    return id8, row
  end
  return nil
end

-- A reply with the cells of RESULT, and the stored value.
local function result_reply(id8, row)
  local _, _, path_size, external_size = parse(RESULT, row)
  local stored = call('HGET', rv, id8)
  local external = external_size > 0 and sub(row, RESULT_SIZE + path_size + 1, RESULT_SIZE + path_size + external_size - 1)
  return {'=', stored, number(parse('>I8', id8)), external}, stored
end

-- Hide a result from readers by path.
local function take(id8, row)
  call('HSET', r, id8, 't' .. sub(row, 2))
end

-- Store the result of an item that is gone.
local function put_result(id8, path, external, external_size, stored, flag)
  local ends = now + results_ms
  call('HSET', r, id8, pack(RESULT, flag, ends, #path, external_size) .. path .. external)
  call('HSET', rv, id8, stored)
  call('HSET', rk, 'p' .. path, id8)
  if external_size > 0 then
    call('HSET', rk, external_field(path, external), id8)
  end
  call('ZADD', rx, 0, pack('>I8', ends) .. id8)
  rdue = earlier(rdue, ends)
  results = results + 1
  rbytes = rbytes + size_of(stored)
end

local function remove_result(id8, row)
  local _, ends, path_size, external_size = parse(RESULT, row)
  local path = sub(row, RESULT_SIZE + 1, RESULT_SIZE + path_size)
  local stored = call('HGET', rv, id8)
  if call('HGET', rk, 'p' .. path) == id8 then
    call('HDEL', rk, 'p' .. path)
  end
  if external_size > 0 then
    local field = external_field(path, sub(row, RESULT_SIZE + path_size + 1))
    if call('HGET', rk, field) == id8 then
      call('HDEL', rk, field)
    end
  end
  call('HDEL', r, id8)
  call('HDEL', rv, id8)
  call('ZREM', rx, pack('>I8', ends) .. id8)
  results = results - 1
  rbytes = rbytes - size_of(stored)
  let_go(stored, hq)
end
