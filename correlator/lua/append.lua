-- Appends entries to a stream and counts their bytes.
--
-- KEYS  1 stream  2 bytes of the stream
-- ARGV  per entry: number of fields and values that follow, then they
-- Returns the entry ids, in order.

local ids, at, bytes = {}, 1, 0
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local entry = {}
  for i = 1, count do
    entry[i] = ARGV[at + i]
    if i % 2 == 0 then bytes = bytes + #entry[i] end
  end
  ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(entry))
  at = at + 1 + count
end
redis.call('INCRBY', KEYS[2], bytes)
return ids
