-- Bring a part of the archive from one offset of the log to another: all of it, or nothing when the part is elsewhere.
--
-- KEYS: the index, then the streams that entries name by their number here.
-- ARGV: since (empty for an empty part), until, anew (or empty), mark (or empty), prune, lifetime of the index in ms,
--       then for each entry: number of its key, channel, id (empty: remove), data, extras, size, oldest id, ttl in ms.
--
-- The index is a sorted set: channels by their last offset. Names with a space are no channels: ' filled', ' from' and
-- ' mark …' stand there with negative offsets. Being one key it is lost as a whole or not at all.

local index = KEYS[1]
local filled = redis.call('ZSCORE', index, ' filled')
local at = filled and string.format('%.0f', 0 - tonumber(filled)) or ''
if at ~= ARGV[1] then
  return at
end

if ARGV[3] ~= '' then
  redis.call('ZADD', index, 0, ' from') -- refused without memory, before anything is taken away
  redis.call('ZREMRANGEBYRANK', index, 0, -1)
  redis.call('ZADD', index, 0 - tonumber(ARGV[3]), ' from')
end
local from = string.format('%.0f', 0 - tonumber(redis.call('ZSCORE', index, ' from')))

for i = 7, #ARGV, 8 do
  local stream, channel, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  local top = redis.call('ZSCORE', index, channel)
  if id == '' then
    redis.call('UNLINK', stream)
  else
    if not top then
      redis.call('UNLINK', stream) -- of an earlier life of this part
    end
    local entry = {'XADD', stream, 'MAXLEN', '=', ARGV[i + 5], id, 'p', top or from, 'd', ARGV[i + 3]}
    if ARGV[i + 4] ~= '' then
      entry[#entry + 1] = 'x'
      entry[#entry + 1] = ARGV[i + 4]
    end
    local added = redis.pcall(unpack(entry))
    if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
    if ARGV[i + 6] ~= '' then
      redis.call('XTRIM', stream, 'MINID', '=', ARGV[i + 6])
    end
    redis.call('PEXPIRE', stream, ARGV[i + 7])
    redis.call('ZADD', index, string.match(id, '^%d+'), channel)
  end
end

local prune = tonumber(ARGV[5])
if prune > tonumber(from) then
  redis.call('ZREMRANGEBYSCORE', index, '(' .. string.format('%.0f', 0 - prune), '(' .. ARGV[5])
  redis.call('ZADD', index, 0 - prune, ' from')
end
if ARGV[4] ~= '' then
  redis.call('ZADD', index, 0 - tonumber(ARGV[2]), ARGV[4])
end
redis.call('ZADD', index, 0 - tonumber(ARGV[2]), ' filled')
redis.call('PEXPIRE', index, ARGV[6])
return ARGV[2]
