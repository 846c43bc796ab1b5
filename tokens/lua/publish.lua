-- KEYS: clock, records. ARGV: owner, largest stamp seen, time to live in milliseconds.
-- Gives every record that exists a new stamp and lifts owner's fences. Creates no record: the store
-- holds what is read, not what is written. Returns the stamp, or nothing if the clock is missing or behind
-- what was seen: then nothing was done.
--
-- It takes all records at once, beside the clock that their stamp comes from: the records of a
-- transaction get one stamp, at one moment, in one round trip to a single server. On a cluster all
-- KEYS would have to share a slot.
local last = clockOf(KEYS[1])
if not last or last < tonumber(ARGV[2]) then
	return false
end
local floor = 0
local records = {}
for i = 2, #KEYS do
	local stamp, fences = load(KEYS[i])
	if stamp then
		floor = math.max(floor, stamp)
		records[#records + 1] = {KEYS[i], without(fences, ARGV[1])}
		records[#records].fresh = stamp == 0
	end
end
local stamp = tick(KEYS[1], last, floor)
for i = 1, #records do
	local key, fences = records[i][1], records[i][2]
	if not records[i].fresh then
		store(key, stamp, fences, ARGV[3])
	elseif #fences == 0 then
		redis.call('DEL', key)
	else
		store(key, 0, fences)
	end
end
return digits(stamp)
