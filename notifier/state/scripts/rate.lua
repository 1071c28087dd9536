-- May it be done once more? The rule of core/rates.py, for all nodes together.
-- KEYS: where the time is kept at which all would have been done at the even rate.
-- ARGV: microseconds from one to the next at that rate; how far ahead of it one may be, in microseconds.
-- Answers with the microseconds to wait, 0 when it may be done, which is then counted.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, ahead = tonumber(ARGV[1]), tonumber(ARGV[2])
local after = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + interval
local wait = after - ahead - now
if wait > 0 then
    return math.ceil(wait)
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return 0
