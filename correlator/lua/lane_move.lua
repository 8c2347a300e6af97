-- Moves the cursors of lanes that a consumer holds.
--
-- KEYS  1 lease of the consumer  2 holders  3 cursors  4 events
-- ARGV  1 token  2 witness  then per lane: lane, position up to which everything of it is handled
-- Returns the lanes whose cursor was moved: those that are not its own any more are left out, all without the lease;
--         or REWOUND, having changed nothing.

local moved = {}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return moved end
if not stands(KEYS[4], ARGV[2]) then return rewound end
for i = 3, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[1] then
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    moved[#moved + 1] = ARGV[i]
  end
end
return moved
