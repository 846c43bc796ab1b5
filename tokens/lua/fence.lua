-- KEYS: records. ARGV: owner, lease in microseconds, most owners of a record.
-- Puts owner's fence on every record, or renews it.
--
-- It takes all records at once because COMMIT waits for it: on a single server that is one round
-- trip for a transaction of any size. On a cluster all KEYS would have to share a slot.
local deadline = now() + tonumber(ARGV[2])
for i = 1, #KEYS do
	local stamp, fences = load(KEYS[i])
	fences = fences or {}
	fence(fences, ARGV[1], deadline, tonumber(ARGV[3]))
	store(KEYS[i], stamp or 0, fences)
end
return redis.status_reply('OK')
