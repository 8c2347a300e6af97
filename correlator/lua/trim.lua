-- Removes the oldest entries of a stream: those beyond an age, and as many as it takes to come under a size.
--
-- KEYS  1 stream  2 bytes of the stream  3 cursor that trimming must not pass (absent for streams without one)
-- ARGV  1 remove entries before this id  2 bytes to come under  3 look at this many entries at most
-- Returns how many were removed; as many as were looked at means there may be more.
--
-- Bounded by ARGV[3], so that one call never holds Redis up for long.

local limit = nil
if KEYS[3] then
  limit = redis.call('GET', KEYS[3])
  if not limit then return 0 end
end

local function parts(id)
  local milliseconds, counter = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(milliseconds), tonumber(counter)
end

local function before(a, b)
  local a1, a2 = parts(a)
  local b1, b2 = parts(b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end

local size = tonumber(redis.call('GET', KEYS[2]) or '0')
local removed, gone = {}, 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[3])) do
  local id, fields = entry[1], entry[2]
  if limit and before(limit, id) then break end
  if not before(id, ARGV[1]) and size - gone <= tonumber(ARGV[2]) then break end
  for i = 2, #fields, 2 do gone = gone + #fields[i] end
  removed[#removed + 1] = id
end
if #removed > 0 then
  redis.call('XDEL', KEYS[1], unpack(removed))
  redis.call('DECRBY', KEYS[2], gone)
end
return #removed
