-- How many clients and how many users are on a channel.
-- KEYS: where the answer is kept for a moment if the channel is large; then for each lease the hash of its clients.
-- ARGV: from how many clients on it is large; for how many milliseconds.
-- To count users, all entries are looked at; of a large channel at most once in that time, however many ask.
local kept = redis.call('GET', KEYS[1])
if kept then
    return kept
end
local clients, users, seen = 0, 0, {}
for n = 2, #KEYS do
    for _, entry in ipairs(redis.call('HVALS', KEYS[n])) do
        -- One character, the length of the user's name in bytes, a colon, the name.
        local colon = string.find(entry, ':', 2, true)
        local user = string.sub(entry, colon + 1, colon + tonumber(string.sub(entry, 2, colon - 1)))
        clients = clients + 1
        if not seen[user] then
            seen[user] = true
            users = users + 1
        end
    end
end
local answer = clients .. ' ' .. users
if clients >= tonumber(ARGV[1]) then
    redis.pcall('SET', KEYS[1], answer, 'PX', ARGV[2])
end
return answer
