-- Changes or removes records without a place in the log, with what is looked up by them, all or nothing.
--
-- KEYS  1 lease
--       then one per record
--       then per change of the index: the sorted set
--       then per noted message: the hash of ids
--       then the keys that go as they are
-- ARGV  1 lease token  2 records  3 changes of the index  4 noted messages
--       then per record: how many digits it stands behind, which stay; bytes expected, bytes to set ('' to remove both);
--         how long it lives stays as it is
--       then per change of the index: '1' to add or '0' to remove, the member
--       then per noted message: the field in its hash
-- Returns 'ok', or why nothing was written: 'lease' (not ours any more), 'record' (somebody changed one).

local records, changes, noted = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lease' end
local digits = {}
for i = 1, records do
  local stored, length = redis.call('GET', KEYS[1 + i]) or '', tonumber(ARGV[2 + 3 * i])
  digits[i] = string.sub(stored, 1, length)
  if string.sub(stored, length + 1) ~= ARGV[3 + 3 * i] then return 'record' end
end

local key, at = 2, 5
for i = 1, records do
  if ARGV[at + 2] == '' then
    redis.call('DEL', KEYS[key])
  else
    redis.call('SET', KEYS[key], digits[i] .. ARGV[at + 2], 'KEEPTTL')
  end
  key, at = key + 1, at + 3
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
