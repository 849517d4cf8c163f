-- Kept answers: a message that comes again gets the answer of the first time (wire.md §3).
--
-- u0 and u1 are two generations of one connection's answers. A new one begins when the younger is `keep_ms` old, in the
-- place of the elder, whose answers are dead by then. Fields: message id -> an answer: answered8, what it counts4, bytes
-- of the nonce of a large value that it holds1, that nonce, cells; '' -> begun8, bytes8; 'R' -> all those nonces;
-- '?' .. message id -> stamp8 of the moment at which it began to wait (waits.lua).
-- `mid` is empty for a message without a connection: nothing is kept of that.
--
-- `bounds` holds what is the same for many statements: times in ms, and the room that the other shards leave.
local keep_ms, keep_undelivered_ms, answers_room, items_room, bytes_room, life_ms, orphaned_life_ms, results_ms, shards =
  parse('>I8I8I8I8I8I8I8I8I8', bounds)
local ANSWER_OVERHEAD = 512
local generation0, generation1

-- The kept answer as a reply; nil when there is none.
local function kept()
  if mid == '' then
    return nil
  end
  local zero, one = call('HMGET', u0, '', mid), call('HMGET', u1, '', mid)
  generation0, generation1 = zero[1], one[1]
  local row, life = zero[2] or one[2], keep_ms
  if not row and undelivered > 0 then
    row, life = call('HGET', ux, sub(u0, #s + 3) .. '\0' .. mid), keep_undelivered_ms
  end
  if row and parse('>I8', row) + life > now then
    return {'K', sub(row, 14 + byte(row, 13))}
  end
  return nil
end

-- What to reply when there is no room for one more answer; nil when there is.
local function answers_full()
  if mid ~= '' and abytes >= answers_room then
    return {'E', 'answers'}
  end
  return nil
end

local function drop_generation(key, generation)
  local _, held = parse('>I8I8', generation)
  abytes = math.max(abytes - held, 0)
  local nonces = call('HGET', key, 'R')
  if nonces then
    for at = 1, #nonces, 16 do
      release(sub(nonces, at, at + 15))
    end
  end
  call('UNLINK', key)
end

-- The younger generation, a new one if it is too old: its key, its begin, its bytes.
local function generation_now()
  local begun0, held0, begun1, held1 = -1, 0, -1, 0
  if generation0 then
    begun0, held0 = parse('>I8I8', generation0)
  end
  if generation1 then
    begun1, held1 = parse('>I8I8', generation1)
  end
  local key, begun, held = u0, begun0, held0
  if begun1 > begun0 then
    key, begun, held = u1, begun1, held1
  end
  if begun < 0 or now - begun >= keep_ms then
    if begun >= 0 then
      local elder = key == u0 and generation1 or generation0
      key = key == u0 and u1 or u0
      if key == u0 and generation0 or key == u1 and generation1 then
        drop_generation(key, elder)
      end
    end
    begun, held = now, 0
    call('ZADD', uz, 0, pack('>I8', now) .. key)
  end
  return key, begun, held
end

local function set_generation(key, begun, held)
  local generation = pack('>I8I8', begun, held)
  if key == u0 then
    generation0 = generation
  else
    generation1 = generation
  end
  call('HSET', key, '', generation)
end

-- Keep the first `count` cells of a reply. `stored` is the value among them that may be a large one. Of an answer that
-- `sharers` requests get, each counts its share.
local function keep(reply, count, stored, sharers)
  if mid == '' then
    return
  end
  local parts, size = {'', ''}, 0  -- the first two are the head
  for at = 2, count + 1 do
    local cell = reply[at]
    if cell then
      parts[at + 1] = pack('>I4', #cell + 1) .. cell
      size = size + #cell
    else
      parts[at + 1] = '\0\0\0\0'
    end
  end
  local nonce
  if stored and is_large(stored) then
    nonce = nonce_of(stored)
    size = size + size_of(stored)
    hold(nonce)
  end
  size = ANSWER_OVERHEAD + floor(size / (sharers or 1))
  parts[1], parts[2] = pack('>I8I4B', now, size, nonce and 16 or 0), nonce or ''

  local key, begun, held = generation_now()
  abytes = abytes + size
  set_generation(key, begun, held + size)
  if nonce then
    call('HSET', key, 'R', (call('HGET', key, 'R') or '') .. nonce)
  end
  call('HSET', key, mid, table.concat(parts))
end
