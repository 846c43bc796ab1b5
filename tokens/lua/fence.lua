-- KEYS: records. ARGV: owner, lease in microseconds.
-- Puts owner's fence on every record, or renews it.
local deadline = now() + tonumber(ARGV[2])
for i = 1, #KEYS do
	local stamp, fences = load(KEYS[i])
	fences = without(fences or {}, ARGV[1])
	fences[#fences + 1] = {ARGV[1], deadline}
	store(KEYS[i], stamp or 0, fences)
end
return redis.status_reply('OK')
