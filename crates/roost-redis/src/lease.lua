-- A node says that it is there. KEYS[1]: the table of nodes. ARGV: its name, what it tells of itself.
-- Returns the time of the server, in milliseconds.
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
return now
