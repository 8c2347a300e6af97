-- Moves an entry out of the quarantine into the capture log, as the capture that it proved to be.
--
-- KEYS  1 captures  2 bytes of captures  3 quarantine  4 bytes of the quarantine
-- ARGV  1 entry id in the quarantine  then per field of the capture: name, value
-- Returns the entry id in the capture log, or '' having changed nothing, since the entry is not there any more.

local found = redis.call('XRANGE', KEYS[3], ARGV[1], ARGV[1])[1]
if not found then return '' end

local released, added = 0, 0
for i = 2, #found[2], 2 do released = released + #found[2][i] end
local entry = {}
for i = 2, #ARGV, 2 do
  entry[i - 1], entry[i] = ARGV[i], ARGV[i + 1]
  added = added + #ARGV[i + 1]
end

local id = redis.call('XADD', KEYS[1], '*', unpack(entry))
redis.call('INCRBY', KEYS[2], added)
redis.call('XDEL', KEYS[3], ARGV[1])
redis.call('DECRBY', KEYS[4], released)
return id
