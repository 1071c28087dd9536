-- What a part of the archive holds of a channel, together with how far it is filled.
--
-- KEYS: the index, the stream. ARGV: channel, '>' or '<', offset after or before which (empty: all), most entries,
-- most bytes (one entry is always given).
-- Answers nothing for an empty part; else filled, from, the channel's last offset (or empty), the offset before the
-- first entry (or empty), 1 when there may be more, and the entries: lines of id, data and extras.

local index, stream, channel = KEYS[1], KEYS[2], ARGV[1]
local filled = redis.call('ZSCORE', index, ' filled')
if not filled then
  return {}
end
local from = redis.call('ZSCORE', index, ' from')
local top = redis.call('ZSCORE', index, channel)
local forward = ARGV[2] == '>'
local at = tonumber(ARGV[3])
if not top or (forward and at and tonumber(top) <= at) then
  return {filled, from, top or '', '', 0, ''}
end

local limit, bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local start
if forward then
  start = at and string.format('%.0f-0', at + 1) or '-'
else
  start = at and string.format('(%.0f-0', at) or '+'
end
local lines, count, size, before, more = {}, 0, 0, '', 0
while true do
  local step = math.min(100, limit - count)
  if step <= 0 or size >= bytes then
    more = 1
    break
  end
  local found
  if forward then
    found = redis.call('XRANGE', stream, start, '+', 'COUNT', step)
  else
    found = redis.call('XREVRANGE', stream, start, '-', 'COUNT', step)
  end
  for _, entry in ipairs(found) do
    local fields = entry[2]
    if count == 0 then
      before = fields[2]
      if forward and at and tonumber(before) > at then
        return {filled, from, top, before, 0, ''} -- what came between is gone
      end
    end
    lines[#lines + 1] = entry[1]
    lines[#lines + 1] = fields[4]
    lines[#lines + 1] = fields[6] or ''
    count = count + 1
    size = size + #fields[4]
    start = '(' .. entry[1]
  end
  if #found < step then
    break
  end
end
return {filled, from, top, before, more, table.concat(lines, '\n')}
