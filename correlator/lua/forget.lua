-- Changes or removes records without a place in the log, with what is looked up by them, all or nothing.
--
-- KEYS  1 lease
--       then one per record
--       then per change of the index: the sorted set
--       then per noted message: the hash of ids
--       then the keys that go as they are
-- ARGV  1 lease token  2 records  3 changes of the index  4 noted messages
--       then per record: bytes expected, bytes to set ('' to remove it); how long it lives stays as it is
--       then per change of the index: '1' to add or '0' to remove, the member
--       then per noted message: the field in its hash
-- Returns 'ok', or why nothing was written: 'lease' (not ours any more), 'record' (somebody changed one).

local records, changes, noted = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lease' end
for i = 1, records do
  if (redis.call('GET', KEYS[1 + i]) or '') ~= ARGV[3 + 2 * i] then return 'record' end
end

local key, at = 2, 5
for _ = 1, records do
  if ARGV[at + 1] == '' then
    redis.call('DEL', KEYS[key])
  else
    redis.call('SET', KEYS[key], ARGV[at + 1], 'KEEPTTL')
  end
  key, at = key + 1, at + 2
end
for _ = 1, changes do
  if ARGV[at] == '1' then
    redis.call('ZADD', KEYS[key], 0, ARGV[at + 1])
  else
    redis.call('ZREM', KEYS[key], ARGV[at + 1])
  end
  key, at = key + 1, at + 2
end
for _ = 1, noted do
  redis.call('HDEL', KEYS[key], ARGV[at])
  key, at = key + 1, at + 1
end
for i = key, #KEYS do redis.call('DEL', KEYS[i]) end
return 'ok'
