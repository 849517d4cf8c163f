-- Requests that wait for a result, RESULT_BLOCKING (commands.md §4.11), of all servers.
--
-- A field is 'i' .. id8 or 'p' .. path. w: field -> (server8, deadline8), one for each server with requests that wait
-- there. An ACK that somebody waits for takes these away and leaves an outcome, which is for them alone:
-- wo: 'i' .. id8 -> stamp8, deadline8, 'v' with a value or 'n' for NULL, bytes of the external id + 1 (0: none), external
-- id, stored value; 'p' .. path -> (stamp8, deadline8, id8 of that) of each ACK of the path, oldest first: who has missed
-- one must not get a later one in its place.
-- Stamps rise. A request gets the stamp of the moment at which it began to wait: a later outcome is for it.
local OUTCOME, OUTCOME_SIZE = '>I8I8c1I4', 21

-- The latest deadline of those who wait in this row of w; 0 when nobody does.
local function waited_until(row)
  local latest = 0
  if row then
    for at = 9, #row, 16 do
      latest = math.max(latest, (parse('>I8', row, at)))
    end
  end
  return latest > now and latest or 0
end

local MOST_OUTCOMES = 64  -- of one path

-- The outcomes of a path that somebody may still ask for.
local function outcomes_left(row)
  local left = {}
  for at = 1, #row, 24 do
    if parse('>I8', row, at + 8) > now then
      left[#left + 1] = sub(row, at, at + 23)
    end
  end
  return left
end

-- The outcome for a request that began to wait at `began`: a reply with the cells of RESULT, the stored value if there
-- is one, and the stamp. nil when there is none.
local function outcome_of(field, began)
  local id8, row = nil, call('HGET', wo, field)
  if row and byte(field) == 112 then
    for at = #row - 23, 1, -24 do
      if parse('>I8', row, at) > began then
        id8 = sub(row, at + 16, at + 23)
      end
    end
    row = id8 and call('HGET', wo, 'i' .. id8)
  elseif row then
    id8 = sub(field, 2)
  end
  if not row then
    return nil
  end
  local stamped, _, kind, external_size = parse(OUTCOME, row)
  if stamped <= began then
    return nil
  end
  if kind == 'n' then
    return {'=', false, number(parse('>I8', id8)), false}, nil, stamped
  end
  local stored = sub(row, OUTCOME_SIZE + math.max(external_size - 1, 0) + 1)
  local external = external_size > 0 and sub(row, OUTCOME_SIZE + 1, OUTCOME_SIZE + external_size - 1)
  return {'=', stored, number(parse('>I8', id8)), external}, stored, stamped
end

-- When the request of this message began to wait, if it did so before: its link or its server was lost since.
local function began_before()
  local stamps = mid ~= '' and {call('HGET', u0, '?' .. mid), call('HGET', u1, '?' .. mid)} or {}
  local stamped = stamps[1] or stamps[2]
  return stamped and parse('>I8', stamped) or nil
end

local function note_began()
  if mid ~= '' then
    local key, begun, held = generation_now()
    set_generation(key, begun, held)
    call('HSET', key, '?' .. mid, pack('>I8', stamp))
  end
end

-- It waits no longer.
local function forget_began()
  if mid ~= '' then
    call('HDEL', u0, '?' .. mid)
    call('HDEL', u1, '?' .. mid)
  end
end
