-- Notes which pipeline is at work, and which capture it is about to try alone: for the one after, should it die of it.
--
-- KEYS  1 lease  2 trials
-- ARGV  1 token  2 what: `begin`, `try`, `settle`, `end`
--       3 begin: the token that this same pipeline worked under before ('' for none); try: the capture's position
-- Returns 1 to `begin` if another pipeline has not ended in order, else 0; to `try` how often it was begun, this time
--         included; 0 to the others. Having changed nothing, -1 if the lease is not the token's.
--
-- `settle`: nothing more is tried alone. `end`: the pipeline ends in order.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local trials, what = KEYS[2], ARGV[2]
if what == 'begin' then
  local before = redis.call('HGET', trials, 'token')
  redis.call('HSET', trials, 'token', ARGV[1])
  return (before and before ~= ARGV[3]) and 1 or 0
end
if what == 'try' then
  if redis.call('HGET', trials, 'position') ~= ARGV[3] then
    redis.call('HSET', trials, 'position', ARGV[3], 'tries', '0')
  end
  return redis.call('HINCRBY', trials, 'tries', 1)
end
if what == 'settle' then
  redis.call('HDEL', trials, 'position', 'tries')
else
  redis.call('DEL', trials)
end
return 0
