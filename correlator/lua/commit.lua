-- Commits the outcome of captures: records, index, events, dead letters, and the cursor, all or nothing.
--
-- KEYS  1 lease  2 cursor  3 events  4 bytes of events  5 dead  6 bytes of dead
--       then one per record
--       then per change of the index: the sorted set
--       then per event: three de-duplication hashes (the one to write first), its sequence counter, the hash of ids
--       then per dead letter: three de-duplication hashes
-- ARGV  1 lease token   2 cursor expected ('' for none)   3 cursor to set ('' to leave it)
--       4 seconds that a hash of ids lives
--       5 what to write, as MessagePack: one argument is cheaper to take over than a thousand. Four lists, of
--         records: {bytes expected ('' for absent), bytes to set, seconds to live (0 for ever)}
--         changes of the index: {whether to add (else to remove), the member}
--         events: {field, seconds of receipt, window in seconds, envelope head, envelope tail, channels (one a line),
--                  1 to append it to the stream with a sequence, 2 to do so though it was seen, 0 to publish only,
--                  field in the hash of ids ('' for none), conversation key to note there}
--         dead letters: {field, seconds of receipt, window in seconds, capture id, reason, detail}
-- Returns {'ok', sequence or 0 (published only) or -1 (duplicate) per event}, or {why} having written nothing:
--         'lease' (not ours any more), 'cursor' (somebody moved it), 'record' (somebody changed one).
--
-- Every read and check comes before the first write. Times are the captures' own, never the server's.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lease'} end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return {'cursor'} end
local records, changes, events, letters = unpack(cmsgpack.unpack(ARGV[5]))
for i, record in ipairs(records) do
  if (redis.call('GET', KEYS[6 + i]) or '') ~= record[1] then return {'record'} end
end

for i, record in ipairs(records) do
  local before, after, ttl = unpack(record)
  if before ~= after then
    if ttl > 0 then
      redis.call('SET', KEYS[6 + i], after, 'EX', ttl)
    else
      redis.call('SET', KEYS[6 + i], after)
    end
  elseif ttl > 0 then
    redis.call('EXPIRE', KEYS[6 + i], ttl)
  end
end

local key = 7 + #records
for _, change in ipairs(changes) do
  local added, member = unpack(change)
  if added then
    redis.call('ZADD', KEYS[key], 0, member)
  else
    redis.call('ZREM', KEYS[key], member)
  end
  key = key + 1
end

-- Whether a fact was seen within its window; remembers it as seen now, or renews that.
local function seen(field, seconds, window)
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

local function note(ids, field, conversation)
  redis.call('HSET', ids, field, conversation)
  if redis.call('HLEN', ids) == 1 then redis.call('EXPIRE', ids, ARGV[4]) end
end

local result, bytes = {'ok'}, 0
for _, event in ipairs(events) do
  local field, seconds, window, head, tail, channels, way, id, conversation = unpack(event)
  if seen(field, seconds, window) and way ~= 2 then
    result[#result + 1] = -1
  elseif way == 0 then
    publish(channels, head)
    result[#result + 1] = 0
  else
    local sequence = redis.call('INCR', KEYS[key + 3])
    local envelope = head .. string.format('%016.0f', sequence) .. tail
    redis.call('XADD', KEYS[3], '*', 'event', envelope)
    publish(channels, envelope)
    if id ~= '' then note(KEYS[key + 4], id, conversation) end
    bytes = bytes + #envelope
    result[#result + 1] = sequence
  end
  key = key + 5
end
if bytes > 0 then redis.call('INCRBY', KEYS[4], bytes) end

local dead = 0
for _, letter in ipairs(letters) do
  local field, seconds, window, capture, reason, detail = unpack(letter)
  if not seen(field, seconds, window) then
    redis.call('XADD', KEYS[5], '*', 'capture', capture, 'reason', reason, 'detail', detail)
    dead = dead + #capture + #reason + #detail
  end
  key = key + 3
end
if dead > 0 then redis.call('INCRBY', KEYS[6], dead) end

if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
return result
