-- Appends entries to a stream and counts their bytes.
--
-- KEYS  1 stream  2 bytes of the stream  3 fence, if the writer has one
-- ARGV  1 number of fields  then their names  then per entry: their values  then, with a fence, the writer's number
-- Returns the entry ids, in order; with a fence that stands higher than the number, the error FENCED, and nothing is
-- written: it is a write that was given up, and that comes so late that it was looked for already.

local last = #ARGV
if KEYS[3] then
  local fence = redis.call('GET', KEYS[3])
  if fence and tonumber(fence) > tonumber(ARGV[last]) then return redis.error_reply('FENCED it was given up before') end
  last = last - 1
end

local fields = tonumber(ARGV[1])
local entry = {}
for i = 1, fields do entry[2 * i - 1] = ARGV[1 + i] end

local ids, bytes = {}, 0
for at = 1 + fields, last - fields, fields do
  for i = 1, fields do
    local value = ARGV[at + i]
    entry[2 * i] = value
    bytes = bytes + #value
  end
  ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(entry))
end
redis.call('INCRBY', KEYS[2], bytes)
return ids
