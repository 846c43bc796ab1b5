-- Put between record.lua and each script of Redis Cluster. Such a script touches one key, so that it runs
-- wherever that key's slot is.

-- written tells whether fences of others than mints are among fences. The fence of a mint only says
-- that one is under way: whoever finds a stamp beside it may use that.
local function written(fences)
	for i = 1, #fences do
		if string.sub(fences[i][1], 1, 2) ~= '~m' then
			return true
		end
	end
	return false
end

local function state(stamp, fenced, at)
	return {digits(stamp), fenced and 1 or 0, at and digits(at) or ''}
end
