-- KEYS: clock. ARGV: 'next', 'reach' or 'leap', largest stamp seen, a stamp.
-- next gives out a new stamp that is larger than the one given. reach sees to it that the clock is not
-- behind the stamp given, and gives out none. Both return nothing if the clock is missing or behind what
-- was seen: then nothing was done. leap sets the clock a minute ahead of all that is known, whatever it
-- was. Returns the clock, and 1 if it was behind the stamp.
local seen, floor = tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = clockOf(KEYS[1])
if ARGV[1] == 'leap' then
	clock = math.max(clock or 0, seen, floor, now()) + 60000000
	redis.call('SET', KEYS[1], digits(clock))
	return {digits(clock), 0}
end
if not clock or clock < seen then
	return false
end
local behind = clock < floor and 1 or 0
if ARGV[1] == 'next' then
	clock = tick(KEYS[1], clock, floor)
elseif behind == 1 then
	clock = floor
	redis.call('SET', KEYS[1], digits(clock))
end
return {digits(clock), behind}
