-- KEYS: clock, sweep of everything, identity. ARGV: largest stamp seen, largest stamp of an identity
-- known, the stamp that the latest sweep must exceed or '', lease of the sweep's fence in microseconds.
-- Finds out whether the server may have lost something, and sweeps everything if it may: if it is not
-- the server that the identity names, the identity is older than the one known, the clock is missing
-- or behind what was seen, or nobody has swept since the stamp given. Returns the stamp of the latest
-- sweep, 1 if this script made it, 1 if the server does not tell who it is, and the clock.
--
-- The identity is "<run_id>:<lineage>:<stamp of the latest sweep>". A server has a new run_id whenever it
-- is started. Its lineage is its replication id, which is a new one when it is promoted: it has what
-- another had before that. A server that was no replica since it was started has the lineage 0, for its
-- replication id changes too when its first replica comes, and some time after the last is gone, and
-- nothing is lost. Its master_replid2 is zeros, and it has received no byte from a master; the first
-- alone is not enough, for it is cleared some time after the last replica is gone. CONFIG RESETSTAT
-- clears the second: leave it alone on a server that has been a replica.
--
-- All KEYS would have to share a slot on a cluster. It is one script because nothing may be read from
-- a new server before it is swept, and the sweep must not follow a publish that came between.
local function told(section, name)
	local info = redis.pcall('INFO', section)
	return type(info) == 'string' and string.match(info, name .. ':(%w+)') or ''
end

local run, line = told('server', 'run_id'), told('replication', 'master_replid')
local hidden = (run == '' or line == '') and 1 or 0
if told('replication', 'master_replid2') == string.rep('0', 40) and told('stats', 'total_net_repl_input_bytes') == '0' then
	line = '0'
end
local seen, known, since = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = clockOf(KEYS[1])
local identity = redis.pcall('GET', KEYS[3])
local wasRun, wasLine, swept
if type(identity) == 'string' then
	wasRun, wasLine, swept = string.match(identity, '^(%w*):(%w*):(%d+)$')
end
swept = stampOf(swept)

local lost = not clock or clock < seen
	or not swept or swept < known
	or since and swept <= since
	or run ~= '' and run ~= wasRun
	or line ~= '' and line ~= wasLine
if not lost then
	return {digits(swept), 0, hidden, digits(clock)}
end

-- A minute ahead of all that is known: no stamp that was lost is given out again, whatever the clocks
-- of the hosts say.
local at = now()
local stamp, fences = load(KEYS[2])
stamp = math.max(clock or 0, seen, known, swept or 0, stamp or 0, at) + 60000000
fences = without(fences or {}, LOST)
local lease = tonumber(ARGV[4])
if lease > 0 then
	fences[#fences + 1] = {LOST, at + lease}
end
store(KEYS[2], stamp, fences)
redis.call('SET', KEYS[1], digits(stamp))
redis.call('SET', KEYS[3], run .. ':' .. line .. ':' .. digits(stamp))
return {digits(stamp), 1, hidden, digits(stamp)}
