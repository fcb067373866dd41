-- Changes a record if it is still the one that the change was planned against.
-- KEYS[1]: the record. ARGV: the version that it must have ("0": there is none), the time to live in milliseconds that the change needs
-- (0: for ever), the channel, the AOR, how many fields go, these, then fields and values that come.
-- Returns the new version, or the record as it is.
local have = redis.call('HGET', KEYS[1], 'v') or '0'
if have ~= ARGV[1] then
  return redis.call('HGETALL', KEYS[1])
end
local left = redis.call('PTTL', KEYS[1])
local gone = tonumber(ARGV[5])
for i = 6, 5 + gone do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
for i = 6 + gone, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
-- Never a version that this record had before, even if it was gone in between.
local time = redis.call('TIME')
local version = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(have) + 1)
local bindings = redis.call('HLEN', KEYS[1]) - redis.call('HEXISTS', KEYS[1], 'v')
if bindings == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'v', string.format('%.0f', version))
  local needed = tonumber(ARGV[2])
  if needed == 0 then
    redis.call('PERSIST', KEYS[1])
  elseif left ~= -1 then
    redis.call('PEXPIRE', KEYS[1], math.max(left, needed))
  end
end
redis.call('PUBLISH', ARGV[3], string.format('%.0f', version) .. ' ' .. ARGV[4])
return version
