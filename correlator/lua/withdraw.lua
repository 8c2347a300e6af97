-- Removes entries from a stream, whichever they are, and counts their bytes out.
--
-- KEYS  1 lease  2 stream  3 bytes of the stream
-- ARGV  1 lease token  then the ids of the entries
-- Returns how many were removed, or -1 having changed nothing: the lease is not ours any more.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local removed, gone = {}, 0
for at = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[2], ARGV[at], ARGV[at])[1]
  if entry then
    for i = 2, #entry[2], 2 do gone = gone + #entry[2][i] end
    removed[#removed + 1] = ARGV[at]
  end
end
if #removed > 0 then
  redis.call('XDEL', KEYS[2], unpack(removed))
  redis.call('DECRBY', KEYS[3], gone)
end
return #removed
