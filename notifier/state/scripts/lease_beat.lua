-- Renew a lease and find those that have run out.
-- KEYS: the sorted set of leases by their end, in milliseconds of this server's clock.
-- ARGV: the lease; how long it is to hold, in milliseconds.
-- Answers with 1 if the lease was not known (0 if it was), and with up to 100 leases that are over.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local new = redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return {new, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'LIMIT', 0, 100)}
