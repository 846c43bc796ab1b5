-- Shared by all scripts: it is put before each of them.
--
-- A record is a string: "<stamp>", followed by "!<owner>@<deadline>" for every fence. Stamps and
-- deadlines are microseconds since the epoch; they fit a double until the year 2255. Anything else
-- counts as missing, whatever wrote it.

local function now()
	local t = redis.call('TIME')
	return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function digits(n)
	return string.format('%.0f', n)
end

-- parse returns a record's stamp and its fences, or nil.
local function parse(value)
	if type(value) ~= 'string' then
		return nil
	end
	local stamp, rest = string.match(value, '^(%d+)(.*)$')
	if not stamp or #stamp > 16 then
		return nil
	end
	local fences = {}
	while rest ~= '' do
		local owner, deadline, more = string.match(rest, '^!([^!@]+)@(%d+)(.*)$')
		if not owner or #deadline > 16 then
			return nil
		end
		fences[#fences + 1] = {owner, tonumber(deadline)}
		rest = more
	end
	return tonumber(stamp), fences
end

-- load is parse of what stands under a key. A key of another type than string is missing too.
local function load(key)
	return parse(redis.pcall('GET', key))
end

-- without returns the fences that are not owner's.
local function without(fences, owner)
	local left = {}
	for i = 1, #fences do
		if fences[i][1] ~= owner then
			left[#left + 1] = fences[i]
		end
	end
	return left
end

-- live returns the fences before their deadline.
local function live(fences, at)
	local left = {}
	for i = 1, #fences do
		if fences[i][2] > at then
			left[#left + 1] = fences[i]
		end
	end
	return left
end

-- store writes a record. A fenced one has no time to live: to forget it would be to forget the
-- fence. Neither has a sweep's: everything depends on it.
local function store(key, stamp, fences, ttl)
	if #fences == 0 then
		if string.sub(key, -2) == '#!' then
			redis.call('SET', key, digits(stamp))
		else
			redis.call('SET', key, digits(stamp), 'PX', ttl)
		end
		return
	end
	local parts = {digits(stamp)}
	for i = 1, #fences do
		parts[#parts + 1] = '!' .. fences[i][1] .. '@' .. digits(fences[i][2])
	end
	redis.call('SET', key, table.concat(parts))
end

-- tick gives out a new stamp: larger than any given out before, than any that was met in a record
-- (floor), and not behind the time. A clock that is missing was lost, and with it perhaps stamps
-- and records: it starts a minute ahead of all that is known, and everything is swept.
--
-- It writes the clock and the sweep of everything next to the caller's records, so on a cluster
-- all of these would have to share a slot. On a single server a stamp needs no round trip of its own.
local function tick(clock, everything, floor, seen, ttl)
	local last = tonumber(redis.pcall('GET', clock) or nil)
	local at = now()
	if not last then
		local stamp, fences = load(everything)
		last = math.max(at, floor, seen, stamp or 0) + 60000000
		store(everything, last, fences or {}, ttl)
	end
	local stamp = math.max(last + 1, floor + 1, at)
	redis.call('SET', clock, digits(stamp))
	return stamp
end
