-- Keeps or gives up the lease.
--
-- KEYS  1 lease
-- ARGV  1 token  2 milliseconds to live from now; 0 gives it up
-- Returns 1 if the token held it, else 0 having changed nothing.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
