-- KEYS: record. ARGV: owner of the mint, its stamp, the time at which it began, time to live in milliseconds.
-- Ends a mint. The fences that had lapsed when it began are dropped, and no others: an owner that died
-- since may have committed after the stamp was given out. If there is a stamp and nothing to drop,
-- another mint was faster, and its stamp stays: all who read the record meanwhile get the same.
-- Returns stamp and 0 or 1 (fenced).
local stamp, fences = load(KEYS[1])
if not stamp then
	return state(0, true) -- a publish has called the mint off
end
local left = without(fences, ARGV[1])
if #left == #fences then
	return state(stamp, stamp == 0 or written(left)) -- the same, or this script ran before
end
local kept = live(left, tonumber(ARGV[3]))
if stamp == 0 or #kept < #left then
	stamp = math.max(stamp, tonumber(ARGV[2]))
end
store(KEYS[1], stamp, kept, ARGV[4])
return state(stamp, written(kept))
