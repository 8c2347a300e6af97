-- Appends entries to a stream and counts their bytes.
--
-- KEYS  1 stream  2 bytes of the stream
-- ARGV  1 number of fields  then their names  then per entry: their values
-- Returns the entry ids, in order.

local fields = tonumber(ARGV[1])
local entry = {}
for i = 1, fields do entry[2 * i - 1] = ARGV[1 + i] end

local ids, bytes = {}, 0
for at = 1 + fields, #ARGV - fields, fields do
  for i = 1, fields do
    local value = ARGV[at + i]
    entry[2 * i] = value
    bytes = bytes + #value
  end
  ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(entry))
end
redis.call('INCRBY', KEYS[2], bytes)
return ids
