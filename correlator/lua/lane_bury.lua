-- Gives an event up: a dead letter of the group, and the lane's cursor past it, both or neither.
--
-- KEYS  1 lease of the consumer  2 holders  3 cursors  4 dead letters of the group  5 events
-- ARGV  1 token  2 lane  3 position of the event  4 its id  5 reason  6 tries  7 dead letters kept, about
--       8 witness
-- Returns 1; or having changed nothing, 0 if the lane is not the consumer's any more, or REWOUND.
--
-- Letters from before the oldest event that is kept are removed, some of them at least: ids may hold numbers of people.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[1] then return 0 end
if not stands(KEYS[5], ARGV[8]) then return rewound end
local oldest = redis.call('XRANGE', KEYS[5], '-', '+', 'COUNT', 1)[1]
if oldest then redis.call('XTRIM', KEYS[4], 'MINID', '~', oldest[1]) end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[7], '*',
  'event', ARGV[4], 'position', ARGV[3], 'reason', ARGV[5], 'tries', ARGV[6])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
return 1
