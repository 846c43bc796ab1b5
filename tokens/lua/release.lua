-- KEYS: records. ARGV: owner, time to live in milliseconds.
-- Lifts owner's fences and changes no stamp.
--
-- It takes all records at once to end a transaction in one round trip to a single server. On a
-- cluster all KEYS would have to share a slot.
for i = 1, #KEYS do
	local stamp, fences = load(KEYS[i])
	if stamp then
		local left = without(fences, ARGV[1])
		if stamp == 0 and #left == 0 then
			redis.call('DEL', KEYS[i])
		elseif #left < #fences then
			store(KEYS[i], stamp, left, ARGV[2])
		end
	end
end
return redis.status_reply('OK')
