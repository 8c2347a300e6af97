-- Commits the outcome of captures: records, index, events, dead letters, and the cursor, all or nothing.
--
-- KEYS  1 lease  2 cursor  3 events  4 bytes of events  5 dead  6 bytes of dead
--       then one per record
--       then per change of the index: the sorted set
--       then per generation of de-duplication: three marks, its own first
--       then per event: three de-duplication hashes (the one to write first); where it is numbered, unless that is a
--         record above; the hash of ids, if it is noted there
--       then per dead letter: three de-duplication hashes
-- ARGV  1 lease token   2 cursor expected ('' for none)   3 cursor to set ('' to leave it)
--       4 seconds that a hash of ids lives
--       5 what to write, as MessagePack: one argument is cheaper to take over than a thousand. Five lists, of
--         records: {bytes expected ('' for absent), bytes to set (false to leave them), seconds to live (0 for ever),
--                   whether it stands behind the number of its last event}
--         changes of the index: {whether to add (else to remove), the member}
--         generations: {seconds that their marks live}
--         events: {field, seconds of receipt, window in seconds, which generation, envelope head, envelope tail,
--                  channels (one a line), 1 to append it to the stream with a sequence, 2 to do so though it was seen,
--                  0 to publish only, where its number is: in which record above, or 0 in a record apart, -1 a counter,
--                  field in the hash of ids ('' for none), conversation key to note there}
--         dead letters: {field, seconds of receipt, window in seconds, which generation, capture id, reason, detail}
-- Returns {'ok', sequence or 0 (published only) or -1 (duplicate) per event}, or {why} having written nothing:
--         'lease' (not ours any more), 'cursor' (somebody moved it), 'record' (somebody changed one).
--
-- Every read that may refuse comes before the first write. Times are the captures' own, never the server's.

local DIGITS, NUMBER = 16, '%016.0f'

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lease'} end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return {'cursor'} end
local records, changes, generations, events, letters = unpack(cmsgpack.unpack(ARGV[5]))

-- The number of the last event, by the place of the record that it stands in front of; as text where it has changed.
local numbers, changed = {}, {}
for i, record in ipairs(records) do
  local stored = redis.call('GET', KEYS[6 + i]) or ''
  if record[4] then
    numbers[i] = tonumber(string.sub(stored, 1, DIGITS)) or 0
    stored = string.sub(stored, DIGITS + 1)
  end
  if stored ~= record[1] then return {'record'} end
end

local marks = 6 + #records + #changes
local first = marks + 3 * #generations + 1
-- An event of a merged conversation is numbered in a record that it does not change itself.
local key = first
for _, event in ipairs(events) do
  local place = event[9]
  if place == 0 then
    local name = KEYS[key + 3]
    numbers[name] = tonumber(string.sub(redis.call('GET', name) or '', 1, DIGITS))
    if not numbers[name] then return {'record'} end
  end
  key = key + 3 + (place > 0 and 0 or 1) + (event[10] ~= '' and 1 or 0)
end

-- Of three generations most often one or two were begun: where there is no mark there is no hash to look into.
local begun = {}
for i, seconds in ipairs(generations) do redis.call('SET', KEYS[marks + 3 * i - 2], '1', 'EX', seconds) end
for i in ipairs(generations) do
  local mark = marks + 3 * i - 2
  begun[i] = {true, redis.call('EXISTS', KEYS[mark + 1]) == 1, redis.call('EXISTS', KEYS[mark + 2]) == 1}
end

-- Whether a fact was seen within its window; remembers it as seen now, or renews that.
local function seen(field, seconds, window, generation)
  local latest, duplicate, name = seconds, false, KEYS[key]
  local is_new = redis.call('HSETNX', name, field, seconds) == 1
  for place = is_new and 2 or 1, 3 do
    local before = begun[generation][place] and tonumber(redis.call('HGET', KEYS[key + place - 1], field))
    if before and seconds - before <= window then
      duplicate = true
      if before > latest then latest = before end
    end
  end
  if not is_new or latest > seconds then redis.call('HSET', name, field, latest) end
  -- Its hash is written for one generation (at most twice the window, and a day), and needed for a window after that.
  if is_new and redis.call('HLEN', name) == 1 then redis.call('EXPIRE', name, 3 * window + 2 * 86400) end
  key = key + 3
  return duplicate
end

local function publish(channels, envelope)
  for channel in string.gmatch(channels, '[^\n]+') do redis.call('PUBLISH', channel, envelope) end
end

local function note(ids, field, conversation)
  local is_new = redis.call('HSET', ids, field, conversation) == 1
  if is_new and redis.call('HLEN', ids) == 1 then redis.call('EXPIRE', ids, ARGV[4]) end
end

-- The next number of a subject, and the same in digits.
local function next_of(place)
  if place < 0 then
    local number = redis.call('INCR', KEYS[key])
    return number, string.format(NUMBER, number)
  end
  if place == 0 then place = KEYS[key] end
  numbers[place] = numbers[place] + 1
  changed[place] = string.format(NUMBER, numbers[place])
  return numbers[place], changed[place]
end

local result, bytes = {'ok'}, 0
key = first
for _, event in ipairs(events) do
  local field, seconds, window, generation, head, tail, channels, way, place, id, conversation = unpack(event)
  local duplicate = seen(field, seconds, window, generation) and way ~= 2
  if duplicate then
    result[#result + 1] = -1
  elseif way == 0 then
    publish(channels, head)
    result[#result + 1] = 0
  else
    local number, digits = next_of(place)
    local envelope = head .. digits .. tail
    redis.call('XADD', KEYS[3], '*', 'event', envelope)
    publish(channels, envelope)
    bytes = bytes + #envelope
    result[#result + 1] = number
  end
  if place <= 0 then key = key + 1 end
  if id ~= '' then
    if not duplicate and way ~= 0 then note(KEYS[key], id, conversation) end
    key = key + 1
  end
end
if bytes > 0 then redis.call('INCRBY', KEYS[4], bytes) end

for i, record in ipairs(records) do
  local _, after, ttl, numbered = unpack(record)
  if after then
    if numbered then after = (changed[i] or string.format(NUMBER, numbers[i])) .. after end
    if ttl > 0 then
      redis.call('SET', KEYS[6 + i], after, 'EX', ttl)
    else
      redis.call('SET', KEYS[6 + i], after)
    end
  else
    if changed[i] then redis.call('SETRANGE', KEYS[6 + i], 0, changed[i]) end
    if ttl > 0 then redis.call('EXPIRE', KEYS[6 + i], ttl) end
  end
  changed[i] = nil
end
for name, digits in pairs(changed) do redis.call('SETRANGE', name, 0, digits) end

for i, change in ipairs(changes) do
  local added, member = unpack(change)
  if added then
    redis.call('ZADD', KEYS[6 + #records + i], 0, member)
  else
    redis.call('ZREM', KEYS[6 + #records + i], member)
  end
end

local dead = 0
for _, letter in ipairs(letters) do
  local field, seconds, window, generation, capture, reason, detail = unpack(letter)
  if not seen(field, seconds, window, generation) then
    redis.call('XADD', KEYS[5], '*', 'capture', capture, 'reason', reason, 'detail', detail)
    dead = dead + #capture + #reason + #detail
  end
end
if dead > 0 then redis.call('INCRBY', KEYS[6], dead) end

if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
return result
