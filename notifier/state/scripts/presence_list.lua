-- Who is on a channel.
-- KEYS: for each lease the hash of its clients on the channel. ARGV: how many entries are wanted at most.
-- Answers with their number, and with the entries unless there are more.
local number = 0
for _, key in ipairs(KEYS) do
    number = number + redis.call('HLEN', key)
end
local entries = {}
if number <= tonumber(ARGV[1]) then
    for _, key in ipairs(KEYS) do
        for _, entry in ipairs(redis.call('HVALS', key)) do
            entries[#entries + 1] = entry
        end
    end
end
return {number, entries}
