-- KEYS: clock, records. ARGV: largest stamp seen, time to live in milliseconds.
-- Makes every record usable that can be made so: one that is missing, or bare of stamp and fence,
-- or that had a fence past its deadline, gets a new stamp. Returns the clock, then stamp and 0 or 1
-- (fenced) for every record; or nothing if the clock is missing or behind what was seen: then nothing was done.
--
-- It takes all records at once, beside the clock that new stamps come from: what a reader sees is
-- read at one moment, in one round trip to a single server. On a cluster all KEYS would have to
-- share a slot.
local clock = clockOf(KEYS[1])
if not clock or clock < tonumber(ARGV[1]) then
	return false
end
local at = now()
local records = {}
local floor, stale = 0, false
for i = 2, #KEYS do
	local stamp, fences = load(KEYS[i])
	local left = live(fences or {}, at)
	-- With stamp 0 and a live fence nobody has a token of it, and nobody shall: it stays at 0.
	local new = (not stamp or stamp == 0) and #left == 0 or (stamp or 0) > 0 and #left < #fences
	records[#records + 1] = {KEYS[i], stamp or 0, left, new, fences and #left < #fences}
	floor = math.max(floor, stamp or 0)
	stale = stale or new
end
if stale or floor > clock then
	clock = tick(KEYS[1], clock, floor)
end
local reply = {digits(clock)}
for i = 1, #records do
	local key, stamp, fences, new, dropped = unpack(records[i])
	if new then
		stamp = clock
	end
	if new or dropped then
		store(key, stamp, fences, ARGV[2])
	end
	reply[#reply + 1] = digits(stamp)
	reply[#reply + 1] = #fences > 0 and 1 or 0
end
return reply
