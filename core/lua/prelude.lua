-- Shared by every function of the library. `core.functions` puts the shebang and LIBRARY before it.
--
-- ARGV[1] is a MessagePack value, so its numbers arrive as numbers; what is read from Redis is text and
-- goes through tonumber. Bodies follow as they are, and are named by their index in ARGV. Keys are
-- declared, but for heads that a lane or a timer names, and the other lanes of one that is tidied away:
-- those carry the same hash tag, so they are in the declared slot.

local GROUP = 'workers'

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

-- Whom a lane's pending entry belongs to; nil if it is not pending, or its lane is gone.
local function owner_of(lane, entry)
    local pending = redis.pcall('XPENDING', lane, GROUP, entry, entry, 1)
    return pending[1] and pending[1][2]
end
