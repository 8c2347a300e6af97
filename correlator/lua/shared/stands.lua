-- Comes before scripts that move cursors of subscribers.
--
-- Whether a stream still has what a consumer has read of it: a failover may have lost its end, and what is put in its
-- place may even have smaller ids. `witness` is the last entry that was read ('' for none). It may have been trimmed
-- away since, with everything before it; where something before it is left, it is gone for another reason.

local function stands(stream, witness)
  if witness == '' or redis.call('XRANGE', stream, witness, witness)[1] then return true end
  return not redis.call('XRANGE', stream, '-', witness, 'COUNT', 1)[1] and redis.call('EXISTS', stream) == 1
end

local rewound = redis.status_reply('REWOUND')

