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

-- Owners that are no transaction's. NewOwner makes letters and digits only.
local LOST, CROWD = '~lost', '~crowd'

-- stampOf returns the number of a stamp's text, or nil.
local function stampOf(text)
	if type(text) ~= 'string' or #text > 16 or not string.find(text, '^%d+$') then
		return nil
	end
	return tonumber(text)
end

-- clockOf returns the largest stamp given out, or nil: then it was lost, and with it perhaps stamps
-- and records.
local function clockOf(key)
	return stampOf(redis.pcall('GET', key))
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

-- fence puts owner's fence among fences, or renews it. With more than most owners there, one more
-- shares the fence of the crowd: nobody lifts that one, and each who joins can only put its deadline
-- off, so it stands at least as long as each of theirs would have.
local function fence(fences, owner, deadline, most)
	local own = 0
	for i = 1, #fences do
		if fences[i][1] == owner then
			fences[i][2] = deadline
			return
		elseif fences[i][1] ~= LOST and fences[i][1] ~= CROWD then
			own = own + 1
		end
	end
	if own < most then
		fences[#fences + 1] = {owner, deadline}
		return
	end
	for i = 1, #fences do
		if fences[i][1] == CROWD then
			fences[i][2] = math.max(fences[i][2], deadline)
			return
		end
	end
	fences[#fences + 1] = {CROWD, deadline}
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

-- tick gives out a new stamp: larger than last, which is the clock's, than any that was met in a record
-- (floor), and not behind the time.
local function tick(clock, last, floor)
	local stamp = math.max(last + 1, floor + 1, now())
	redis.call('SET', clock, digits(stamp))
	return stamp
end
