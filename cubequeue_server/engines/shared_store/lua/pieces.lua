-- Values. Stored is one byte of kind and the value: 't' text, 'b' binary. A large one lies in pieces, and stored is
-- 'T' or 'B', the nonce of 16 bytes, its size8 and the number of pieces4. Its holders are counted: a row, each kept
-- answer, each outcome for waiters. After the last of them the pieces go, in background work, and not before those who
-- read them have come to the end.
local READ_MS = 30000

local function is_large(stored)
  local kind = byte(stored)
  return kind == 84 or kind == 66
end

local function nonce_of(stored)
  return sub(stored, 2, 17)
end

-- The bytes of the value.
local function size_of(stored)
  if is_large(stored) then
    return (parse('>I8', stored, 18))
  end
  return #stored - 1
end

local function hold(nonce)
  local holders = call('HGET', bq, nonce)
  if holders then
    local count, pieces = parse('>I4I4', holders)
    call('HSET', bq, nonce, pack('>I4I4', count + 1, pieces))
  end
end

local function release(nonce)
  local holders = call('HGET', bq, nonce)
  if not holders then
    return
  end
  local count, pieces = parse('>I4I4', holders)
  if count > 1 then
    call('HSET', bq, nonce, pack('>I4I4', count - 1, pieces))
  else
    call('HDEL', bq, nonce)
    call('ZADD', bx, 0, pack('>I8', now + READ_MS) .. nonce .. pack('>I4', pieces))
  end
end

-- Take over the pieces that the server has put under the keys from `first` on, for a row of the set `holder`. False
-- when one has gone meanwhile: nothing is changed then. True for a value that is not large.
local function adopt(stored, first, holder)
  if not is_large(stored) then
    return true
  end
  local pieces = parse('>I4', stored, 26)
  for at = first, first + pieces - 1 do
    if call('EXISTS', KEYS[at]) == 0 then
      return false
    end
  end
  for at = first, first + pieces - 1 do
    call('PERSIST', KEYS[at])
  end
  local nonce = nonce_of(stored)
  call('HSET', bq, nonce, pack('>I4I4', 1, pieces))
  call('SADD', holder, nonce)
  return true
end

-- A row lets go of its value.
local function let_go(stored, holder)
  if is_large(stored) then
    local nonce = nonce_of(stored)
    call('SREM', holder, nonce)
    release(nonce)
  end
end

-- The list of nonces that a generation of answers holds, less one of them.
local function without(nonces, nonce)
  for at = 1, #nonces, 16 do
    if sub(nonces, at, at + 15) == nonce then
      return sub(nonces, 1, at - 1) .. sub(nonces, at + 16)
    end
  end
  return nonces
end
