-- KEYS: record. ARGV: owner of the mint, lease in microseconds, most owners of a record.
-- Begins a mint, where one can make the record usable: it is missing, or bare of stamp and fences of
-- writers, or has fences past their deadline. Returns stamp, 0 or 1 (fenced), and the time if a mint
-- was begun.
local at = now()
local stamp, fences = load(KEYS[1])
stamp, fences = stamp or 0, fences or {}
local left = live(fences, at)
local fenced = written(left)
-- With stamp 0 and a live fence nobody has a token of it, and nobody shall.
if stamp == 0 and fenced or stamp > 0 and #left == #fences then
	return state(stamp, fenced)
end
if #left >= tonumber(ARGV[3]) then
	return state(stamp, true)
end
fences[#fences + 1] = {ARGV[1], at + tonumber(ARGV[2])}
store(KEYS[1], stamp, fences)
return state(stamp, fenced, at)
