-- KEYS: sweep of everything. ARGV: lease in microseconds, a stamp or 0.
-- Fences everything as after a loss, and raises the stamp to the one given. Returns the stamp.
local stamp, fences = load(KEYS[1])
stamp = math.max(stamp or 0, tonumber(ARGV[2]))
fences = without(fences or {}, LOST)
local lease = tonumber(ARGV[1])
if lease > 0 then
	fences[#fences + 1] = {LOST, now() + lease}
end
store(KEYS[1], stamp, fences)
return digits(stamp)
