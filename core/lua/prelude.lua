-- Shared by every function of the library. `core.functions` puts the shebang and LIBRARY before it.
--
-- ARGV[1] is a MessagePack value, so its numbers arrive as numbers; what is read from Redis is text and
-- goes through tonumber. Bodies follow as they are, and are named by their index in ARGV. Keys are
-- declared, but for heads that a lane or a timer names, what a job's log entries are carried in, and the other
-- lanes of one that is tidied away: those carry the same hash tag, so they are in the declared slot.

local GROUP = 'workers'
local HANDED_OVER = 'newer-release' -- A consumer that is nobody: see `hand_over`.

local function register(name, callback, flags)
    redis.register_function {
        function_name = LIBRARY .. '_' .. name,
        callback = function(keys, args)
            return callback(keys, cmsgpack.unpack(args[1]), args)
        end,
        flags = flags,
    }
end

local function now_ms()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function milliseconds_of(entry_id)
    return tonumber(string.match(entry_id, '^%d+'))
end

-- A flat reply (field, value, field, value, …) as a table.
local function table_of(flat)
    local fields = {}
    for i = 1, #flat, 2 do
        fields[flat[i]] = flat[i + 1]
    end
    return fields
end

local function field_of(entry, name)
    local flat = entry[2]
    for i = 1, #flat, 2 do
        if flat[i] == name then
            return flat[i + 1]
        end
    end
    return false
end

local function entry_at(stream, id)
    return id and redis.call('XRANGE', stream, id, id)[1]
end

-- Say whether a stream entry's id comes before another's.
local function is_before(id, other)
    local ms, number = string.match(id, '^(%d+)-(%d+)$')
    local other_ms, other_number = string.match(other, '^(%d+)-(%d+)$')
    if ms ~= other_ms then
        return tonumber(ms) < tonumber(other_ms)
    end
    return tonumber(number) < tonumber(other_number)
end

-- Where the entries of a job's log are kept that the log itself has no more (`archive.lua`): for as long as its
-- head. A head that is no job's has none.
local function carried_of(head)
    return (string.gsub(head, '^(respool:{%d+}:)job:', '%1carried:'))
end

-- The hash that says how far a log is in its archive.
local function archived_of(log)
    return (string.gsub(log, 'log$', 'archived'))
end

-- A job's log entry, wherever it is.
local function event_at(log, head, id)
    local entry = entry_at(log, id)
    local carried = not entry and id and redis.call('HGET', carried_of(head), id)
    return entry or carried and { id, cmsgpack.unpack(carried) }
end

-- Whom a lane's pending entry belongs to; nil if it is not pending, or its lane is gone.
local function owner_of(lane, entry)
    local pending = redis.pcall('XPENDING', lane, GROUP, entry, entry, 1)
    return pending[1] and pending[1][2]
end

-- Say whether a newer release than the caller's wrote a head, so that the caller can change nothing of it.
local function is_newer(at, ask)
    return tonumber(at.schema or 0) > ask.schema
end

-- Leave an entry, whose head a newer release wrote, to that release's workers: a waiting job to their next
-- claim, which looks here first; a running one to their next recovery, as silent as can be. It stays
-- pending, and in its place.
local function hand_over(lane, entry, at)
    if at.worker then
        redis.call('XCLAIM', lane, GROUP, HANDED_OVER, 0, entry, 'TIME', 0, 'JUSTID')
    else
        redis.call('XCLAIM', lane, GROUP, HANDED_OVER, 0, entry, 'JUSTID')
        redis.call('PUBLISH', 'respool:bell:work', HANDED_OVER)
    end
end
