-- Releases lanes, so that another consumer may take them at once and without doubts about their next event.
--
-- KEYS  1 lease of the consumer  2 holders
-- ARGV  1 token  then the lanes
-- Returns how many were released: those that the consumer held.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local released = 0
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[1] then
    released = released + redis.call('HDEL', KEYS[2], ARGV[i])
  end
end
return released
