-- Commits the outcome of captures: records, index, events, dead letters, and the cursor, all or nothing.
--
-- KEYS  1 lease  2 cursor  3 events  4 bytes of events  5 dead  6 bytes of dead
--       then one per record
--       then per change of the index: the sorted set
--       then per event: three de-duplication hashes (the one to write first), its sequence counter, the hash of ids
--       then per dead letter: three de-duplication hashes
-- ARGV  1 lease token   2 cursor expected ('' for none)   3 cursor to set ('' to leave it)
--       4 records  5 changes of the index  6 events  7 dead letters  8 seconds that a hash of ids lives
--       then per record: bytes expected ('' for absent), bytes to set, seconds to live (0 for ever)
--       then per change of the index: '1' to add or '0' to remove, the member
--       then per event: field, seconds of receipt, window in seconds, envelope head, envelope tail, channels (one a
--                       line), '1' to append it to the stream with a sequence, '2' to do so though it was seen,
--                       '0' to publish only; field in the
--                       hash of ids ('' for none), conversation key to note there
--       then per dead letter: field, seconds of receipt, window in seconds, capture id, reason, detail
-- Returns {'ok', sequence or 0 (published only) or -1 (duplicate) per event}, or {why} having written nothing:
--         'lease' (not ours any more), 'cursor' (somebody moved it), 'record' (somebody changed one).
--
-- Every read and check comes before the first write. Times are the captures' own, never the server's.

local records, changes = tonumber(ARGV[4]), tonumber(ARGV[5])
local events, letters = tonumber(ARGV[6]), tonumber(ARGV[7])

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lease'} end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return {'cursor'} end
local at = 9
for i = 1, records do
  if (redis.call('GET', KEYS[6 + i]) or '') ~= ARGV[at] then return {'record'} end
  at = at + 3
end

at = 9
for i = 1, records do
  local ttl = tonumber(ARGV[at + 2])
  if ARGV[at] ~= ARGV[at + 1] then
    if ttl > 0 then
      redis.call('SET', KEYS[6 + i], ARGV[at + 1], 'EX', ttl)
    else
      redis.call('SET', KEYS[6 + i], ARGV[at + 1])
    end
  elseif ttl > 0 then
    redis.call('EXPIRE', KEYS[6 + i], ttl)
  end
  at = at + 3
end

local key = 7 + records
for _ = 1, changes do
  if ARGV[at] == '1' then
    redis.call('ZADD', KEYS[key], 0, ARGV[at + 1])
  else
    redis.call('ZREM', KEYS[key], ARGV[at + 1])
  end
  at = at + 2
  key = key + 1
end

-- Whether a fact was seen within its window; remembers it as seen now, or renews that.
local function seen(key, field, seconds, window)
  local latest, duplicate = seconds, false
  for generation = key, key + 2 do
    local before = tonumber(redis.call('HGET', KEYS[generation], field))
    if before and seconds - before <= window then
      duplicate = true
      if before > latest then latest = before end
    end
  end
  redis.call('HSET', KEYS[key], field, string.format('%d', latest))
  -- Its hash is written for one generation (at most twice the window, and a day), and needed for a window after that.
  if redis.call('HLEN', KEYS[key]) == 1 then redis.call('EXPIRE', KEYS[key], 3 * window + 2 * 86400) end
  return duplicate
end

local function publish(channels, envelope)
  for channel in string.gmatch(channels, '[^\n]+') do redis.call('PUBLISH', channel, envelope) end
end

local function note(key, field, conversation)
  redis.call('HSET', KEYS[key], field, conversation)
  if redis.call('HLEN', KEYS[key]) == 1 then redis.call('EXPIRE', KEYS[key], ARGV[8]) end
end

local result, bytes = {'ok'}, 0
for _ = 1, events do
  if seen(key, ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])) and ARGV[at + 6] ~= '2' then
    result[#result + 1] = -1
  elseif ARGV[at + 6] == '0' then
    publish(ARGV[at + 5], ARGV[at + 3])
    result[#result + 1] = 0
  else
    local sequence = redis.call('INCR', KEYS[key + 3])
    local envelope = ARGV[at + 3] .. string.format('%016.0f', sequence) .. ARGV[at + 4]
    redis.call('XADD', KEYS[3], '*', 'event', envelope)
    publish(ARGV[at + 5], envelope)
    if ARGV[at + 7] ~= '' then note(key + 4, ARGV[at + 7], ARGV[at + 8]) end
    bytes = bytes + #envelope
    result[#result + 1] = sequence
  end
  at = at + 9
  key = key + 5
end
if bytes > 0 then redis.call('INCRBY', KEYS[4], bytes) end

local dead = 0
for _ = 1, letters do
  if not seen(key, ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])) then
    local capture, reason, detail = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    redis.call('XADD', KEYS[5], '*', 'capture', capture, 'reason', reason, 'detail', detail)
    dead = dead + #capture + #reason + #detail
  end
  at = at + 6
  key = key + 3
end
if dead > 0 then redis.call('INCRBY', KEYS[6], dead) end

if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
return result
