-- Counts how often an event was tried, before it is tried again or once it has failed.
--
-- KEYS  1 lease of the consumer  2 holders  3 cursors  4 tries  5 events
-- ARGV  1 token  2 lane  3 position of the event  4 tries known of otherwise, at least  5 how many to add
--       6 position up to which everything of the lane is handled  7 witness
-- Returns how often it was tried, these included; having changed nothing, 0 if the lane is not the consumer's any more,
--         or REWOUND.
--
-- One count a lane is enough, since the cursor goes along: what is tried after a crash is never an event before it.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[1] then return 0 end
if not stands(KEYS[5], ARGV[7]) then return rewound end
local position, count = string.match(redis.call('HGET', KEYS[4], ARGV[2]) or '', '^(%S+) (%d+)$')
local tries = position == ARGV[3] and tonumber(count) or 0
tries = math.max(tries, tonumber(ARGV[4])) + tonumber(ARGV[5])
redis.call('HSET', KEYS[4], ARGV[2], ARGV[3] .. ' ' .. string.format('%d', tries))
redis.call('HSET', KEYS[3], ARGV[2], ARGV[6])
return tries
