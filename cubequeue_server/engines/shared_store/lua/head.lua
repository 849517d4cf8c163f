-- Part of every script: the time, and the counters of the shard.
--
-- A script is one serial transition of one shard. The state of shard N lies under keys that begin with {cq:N}:
--
--   s    string  the counters below, 16 numbers of 8 bytes; what a newer version appends is kept
--   m    hash    schema, shards: written once
--   d    hash    id8 -> item (items.lua)                v    hash  id8 -> payload, id8 .. 'x' -> extra
--   k    hash    path -> id8                            q    hash  prefix -> pending, active
--   p    zset    lane .. prio8 .. id8: pending items in the order of LIST, for every i64 of priorities
--   a    zset    qlane .. id8 .. key: active items by id, with what RETRIEVE names them by
--   hb   zset    qlane .. ms8 .. id8: active items by heartbeat
--   c    zset    qlane .. ms8 .. id8: pending items without ORPHANED by creation
--   o    zset    qlane .. ms8 .. id8: pending items with ORPHANED by its end
--   e    zset    ms8 .. id8: items by the time at which to look whether they have expired
--   r    hash    id8 -> result (results.lua)            rv   hash  id8 -> value of the result
--   rk   hash    'p' .. path, 'x' .. size .. path .. external id -> id8 of the newest result
--   rx   zset    ms8 .. id8: results by their end
--   u0:, u1: .. user .. NUL .. connection   hash  kept answers of a connection, in two generations (answers.lua)
--   uz   zset    ms8 .. key: generations of kept answers by their begin
--   ux, uxz      hash, zset: answers that nobody could be given, and ms8 .. field by their end
--   w    hash    'i' .. id8 or 'p' .. path -> who waits (waits.lua)
--   wo   hash    the same -> what came of it            wx   zset  ms8 .. 'w' or 'o' .. field: both by their end
--   C    hash    path -> ms8 .. value                   ch   hash  path -> cache entry (cache.lua)
--   ci   zset    lane .. order8 .. path: entries of a prefix in the order of insertion
--   ce   zset    ms8 .. path: entries with a TTL by its end
--   b:<nonce>:<i>  string  a piece of a large value (pieces.lua)
--   bq   hash    nonce -> holders, pieces               bx   zset  ms8 .. nonce .. count4: pieces to be deleted
--   hq, hc, hz   set: nonces held by queue rows, by cache rows, by rows that were cleared
--
-- ms8, id8, prio8, order8: 8 bytes, big-endian. A lane is a hash of 16 bytes of the prefix, or of prefix and owner for
-- an EXCLUSIVE item; `qlane` is always that of the prefix. Sorted sets have score 0 and are read BYLEX. No key has a
-- TTL but pieces that no row refers to yet.
--
-- `clock` is '=' .. ms in tests, else the lowest time to go by: the time never falls below what the shard has seen.
-- A reply is an array: '=' and cells | 'K' and a kept answer | 'D' (an item has expired: sweep, then ask again)
-- | 'E', kind, … | others that a script tells of.
local call, pack, parse = redis.call, struct.pack, struct.unpack
local sub, byte, floor, text = string.sub, string.byte, math.floor, string.format

local COUNTERS, COUNTERS_SIZE = '>I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8', 128
local raw_counters = call('GET', s) or ''
-- seq: last id given / number of shards; seen: latest time; due, rdue, cdue: no item, result, cache entry ends earlier
-- (0: none ends); swept: last sweep; items, active, bytes: of the queue; results, rbytes: of results; abytes: of kept
-- answers; undelivered: count of those; entries, cbytes: of the cache; stamp: outcomes for waiters so far
local seq, seen, due, rdue, cdue, swept, items, active, bytes, results, rbytes, abytes, undelivered, entries, cbytes,
  stamp = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
if #raw_counters >= COUNTERS_SIZE then
  seq, seen, due, rdue, cdue, swept, items, active, bytes, results, rbytes, abytes, undelivered, entries, cbytes,
    stamp = parse(COUNTERS, raw_counters)
end

local now, micros = nil, 0  -- of the clock, and how much later it is
if byte(clock) == 61 then
  now = tonumber(sub(clock, 2))
else
  local time = call('TIME')
  now, micros = time[1] * 1000 + floor(time[2] / 1000), time[2] % 1000
  local lowest = tonumber(clock)
  if lowest > now then
    now, micros = lowest, 0
  end
end
if seen > now then
  now, micros = seen, 0
end

-- The next number of an item or a cache entry, `lowest` at least: an id is number * shards + shard. Numbers go with the
-- clock, ids by 4 a microsecond, so that those of other shards and servers rise with time, too.
local function next_number(lowest, shards)
  local age_us = (now - 1735689600000) * 1000 + micros
  seq = math.max(seq + 1, lowest, floor(age_us * 4 / shards))
  return seq
end

local function counters()
  return pack(COUNTERS, seq, now, due, rdue, cdue, swept, items, active, bytes, results, rbytes, abytes, undelivered,
    entries, cbytes, stamp) .. sub(raw_counters, COUNTERS_SIZE + 1)
end

-- To be called at the end of whatever has written.
local function save()
  call('SET', s, counters())
end

-- A number as text: Lua's own text of it is not exact.
local function number(value)
  return text('%.0f', value)
end

-- Of two times of which 0 is never, the earlier.
local function earlier(one, other)
  if one == 0 or (other ~= 0 and other < one) then
    return other
  end
  return one
end

-- The end of a range BYLEX of all members that begin with a lane: a priority may be eight bytes of 255, an id never.
local function beyond(lane)
  return '(' .. lane .. '\255\255\255\255\255\255\255\255\255'
end
