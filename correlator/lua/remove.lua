-- Removes chosen entries of a stream and counts their bytes off.
--
-- KEYS  1 stream  2 bytes of the stream
-- ARGV  1 and on: the ids of the entries
-- Returns how many of them were there.

local gone, removed = 0, 0
for _, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', KEYS[1], id, id)[1]
  if found then
    for i = 2, #found[2], 2 do gone = gone + #found[2][i] end
    removed = removed + redis.call('XDEL', KEYS[1], id)
  end
end
redis.call('DECRBY', KEYS[2], gone)
return removed
