-- Background work of a shard, about `most` rows of it: what has ended goes. Does nothing when a sweep ran less than
-- `every_ms` ago.
-- Cells: '1' if more is due; the counters; then of four kinds a number n and n texts: prefixes of items that expired;
-- generations of kept answers to be forgotten (`forget`), members of uz; pieces to be deleted (`unlink`), members of bx;
-- and one text: cache entries that ended, their bytes, both of 8 bytes.
-- keys: s d k v p a hb c o e q r rk rv rx w wo wx C ch ci ce bq bx hq hc hz uz ux uxz
-- args: clock most every_ms life_ms keep_ms
-- flags: allow-oom
-- uses: pieces items results cache waits
local left = tonumber(most)
if now < swept + every_ms and now >= swept then
  return {'=', '0', counters(), '0', '0', '0', pack('>I8I8', 0, 0)}
end

-- The members of an index that are due, as many as may be handled.
local function due_in(index, past)
  if left <= 0 then
    return {}
  end
  local members = call('ZRANGE', index, '-', '(' .. pack('>I8', (past or now) + 1), 'BYLEX', 'LIMIT', 0, left)
  left = left - #members
  return members
end

-- The time of the first member of an index; 0 when it has none.
local function first_time(index)
  local members = call('ZRANGE', index, '-', '+', 'BYLEX', 'LIMIT', 0, 1)
  return #members > 0 and (parse('>I8', members[1])) or 0
end

local expired_prefixes = {}
if due > 0 and due <= now then
  for _, member in ipairs(due_in(e)) do
    local id8 = sub(member, 9)
    local row = call('HGET', d, id8)
    local status, beat, ends, at, created, orphaned, size, extra_size = parse(HEAD, row)
    -- An active item lives until it has been silent for a whole life.
    local lives_until = status == 'a' and math.max(ends, beat + life_ms) or ends
    if lives_until > now then
      call('ZREM', e, member)
      call('ZADD', e, 0, pack('>I8', lives_until) .. id8)
      call('HSET', d, id8, pack(HEAD, status, beat, ends, lives_until, created, orphaned, size, extra_size)
        .. sub(row, HEAD_SIZE + 1))
    else
      expired_prefixes[#expired_prefixes + 1] = remove(id8, row)
    end
  end
  due = first_time(e)
end
if rdue > 0 and rdue <= now then
  for _, member in ipairs(due_in(rx)) do
    local id8 = sub(member, 9)
    remove_result(id8, call('HGET', r, id8))
  end
  rdue = first_time(rx)
end
local ended, ended_bytes = 0, 0
if cdue > 0 and cdue <= now then
  for _, member in ipairs(due_in(ce)) do
    local path = sub(member, 9)
    ended, ended_bytes = ended + 1, ended_bytes + remove_entry(path, call('HGET', ch, path))
  end
  cdue = first_time(ce)
end
for _, member in ipairs(due_in(wx)) do
  local field = sub(member, 10)
  if sub(member, 9, 9) == 'w' then
    if waited_until(call('HGET', w, field)) == 0 then
      call('HDEL', w, field)
    end
  else
    local row = call('HGET', wo, field)
    local left = row and byte(field) == 112 and outcomes_left(row)
    if left and #left > 0 then
      call('HSET', wo, field, table.concat(left))
    elseif row and (left or parse('>I8', row, 9) <= now) then
      if byte(field) == 105 then
        local _, _, kind, external_size = parse(OUTCOME, row)
        local stored = sub(row, OUTCOME_SIZE + math.max(external_size - 1, 0) + 1)
        if kind == 'v' and is_large(stored) then
          release(nonce_of(stored))
        end
      end
      call('HDEL', wo, field)
    end
  end
  call('ZREM', wx, member)
end
for _, member in ipairs(due_in(uxz)) do
  local field = sub(member, 9)
  local row = call('HGET', ux, field)
  if row then
    local _, size, nonce_size = parse('>I8I4B', row)
    abytes = math.max(abytes - size, 0)
    undelivered = undelivered - 1
    if nonce_size > 0 then
      release(sub(row, 14, 29))
    end
    call('HDEL', ux, field)
  end
  call('ZREM', uxz, member)
end
for _, nonce in ipairs(left > 0 and call('SPOP', hz, left) or {}) do
  release(nonce)
  left = left - 1
end
-- A generation of answers is dead when two more could have begun since.
local generations = due_in(uz, now - 2 * keep_ms)
local pieces = left > 0 and call('ZRANGE', bx, '-', '(' .. pack('>I8', now + 1), 'BYLEX', 'LIMIT', 0, math.min(left, 16))
  or {}
swept = now
save()
local reply = {'=', (left <= 0 or #generations > 0 or #pieces > 0) and '1' or '0', counters()}
for _, texts in ipairs({expired_prefixes, generations, pieces}) do
  reply[#reply + 1] = number(#texts)
  for _, each in ipairs(texts) do
    reply[#reply + 1] = each
  end
end
reply[#reply + 1] = pack('>I8I8', ended, ended_bytes)
return reply
