-- Takes lanes of a group of subscribers whose holder is gone.
--
-- KEYS  1 lease of who takes  2 holders  3 cursors  4 tries
--       then per lane: the lease of its former holder (KEYS 1 where it has none)
-- ARGV  1 token  then per lane: lane, token of its former holder ('' for none)
-- Returns for each lane taken {lane, cursor ('' for none), tries ('' for none), 1 if its holder never released it};
--         nothing without the lease, and without a lane that somebody has taken meanwhile or whose holder lives.
--
-- A lane that was not released may have been left in the middle of an event.

local taken = {}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return taken end
for i = 2, #ARGV, 2 do
  local lane, former = ARGV[i], ARGV[i + 1]
  local holder = redis.call('HGET', KEYS[2], lane) or ''
  local free = former == '' or redis.call('EXISTS', KEYS[4 + i / 2]) == 0
  if holder == former and free then
    redis.call('HSET', KEYS[2], lane, ARGV[1])
    local cursor = redis.call('HGET', KEYS[3], lane) or ''
    local tries = redis.call('HGET', KEYS[4], lane) or ''
    taken[#taken + 1] = {lane, cursor, tries, former == '' and 0 or 1}
  end
end
return taken
