-- Changes a record if it is still the one that the change was planned against.
-- KEYS[1]: the record. ARGV: the version that it must have ("0": there is none), the time to live in milliseconds that the change needs
-- (0: for ever), the channel, the AOR, how many fields go, these, then fields and values that come.
-- Returns the new version, or the record as it is.
local have = redis.call('HGET', KEYS[1], 'v') or '0'
if have ~= ARGV[1] then
  return redis.call('HGETALL', KEYS[1])
end
-- Never a version that this record had before, even if it was gone in between, or if another server became the primary that had
-- not heard of the last change.
local time = redis.call('TIME')
local version = tonumber(time[1]) * 1000000 + tonumber(time[2])
if version <= tonumber(have) then
  version = tonumber(have) + 1
end
local shown = string.format('%.0f', version)
local gone = tonumber(ARGV[5])
if gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 6, 5 + gone))
end
if #ARGV > 5 + gone then
  redis.call('HSET', KEYS[1], 'v', shown, unpack(ARGV, 6 + gone))
elseif redis.call('HLEN', KEYS[1]) > 1 then
  redis.call('HSET', KEYS[1], 'v', shown)
else
  -- Nothing is left but its version.
  redis.call('DEL', KEYS[1])
end
if ARGV[2] == '0' then
  redis.call('PERSIST', KEYS[1])
elseif have == '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  -- What lives longer, or for ever, is left as it is.
  redis.call('PEXPIRE', KEYS[1], ARGV[2], 'GT')
end
redis.call('PUBLISH', ARGV[3], shown .. ' ' .. ARGV[4])
return version
