-- Looks for entries by their field `id`, some entries at a time, without sending their bodies anywhere.
--
-- KEYS  1 stream
-- ARGV  1 position after which to look  2 how many entries to look at  then the ids
-- Returns the position reached, '' at the end of the stream; then each id that was found.

local wanted = {}
for i = 3, #ARGV do wanted[ARGV[i]] = true end

local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local result = {''}
for _, entry in ipairs(entries) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'id' and wanted[fields[i + 1]] then result[#result + 1] = fields[i + 1] end
  end
end
if #entries == tonumber(ARGV[2]) then result[1] = entries[#entries][1] end
return result
