-- KEYS: identity. ARGV: stamp of a sweep, then id and identity of every node that it was made for.
-- Records that the nodes were swept for. The identity is a hash of nodes and, under "swept", the stamp
-- of the latest sweep. Nodes that have gone leave theirs behind; when there are too many all go, at
-- the price of a sweep.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' or kind == 'hash' and redis.call('HLEN', KEYS[1]) > 1000 then
	redis.call('DEL', KEYS[1])
end
local swept = stampOf(redis.call('HGET', KEYS[1], 'swept')) or 0
redis.call('HSET', KEYS[1], 'swept', digits(math.max(swept, tonumber(ARGV[1]))))
for i = 2, #ARGV, 2 do
	redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
return redis.status_reply('OK')
