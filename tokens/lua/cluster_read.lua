-- KEYS: record or clock.
-- Returns its text, or nothing. It begins with a write that changes nothing: a node that takes no
-- fences refuses that, and is not read.
local answer = redis.pcall('SETRANGE', KEYS[1], 0, '')
if type(answer) == 'table' and answer.err and not string.find(answer.err, 'WRONGTYPE', 1, true) then
	return answer
end
local value = redis.pcall('GET', KEYS[1])
return type(value) == 'string' and value
