-- KEYS: record. ARGV: owner, stamp, time to live in milliseconds.
-- Gives the record the stamp, unless it has a larger one, and lifts owner's fence. Creates no record.
-- Returns the stamp that the record had.
--
-- A record without a stamp gets none. The mints of it that are under way are called off, by lifting their
-- fences: their stamps may be older than the commit that is published here.
local stamp, fences = load(KEYS[1])
if not stamp then
	return '0'
end
local left = without(fences, ARGV[1])
if stamp > 0 then
	store(KEYS[1], math.max(stamp, tonumber(ARGV[2])), left, ARGV[3])
	return digits(stamp)
end
local others = {}
for i = 1, #left do
	if written({left[i]}) then
		others[#others + 1] = left[i]
	end
end
if #others == 0 then
	redis.call('DEL', KEYS[1])
else
	store(KEYS[1], 0, others)
end
return '0'
