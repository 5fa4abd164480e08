-- Stands before the library's own text, so that its functions go by the simulation's clock.
--
-- What follows sees this `redis` instead of Redis's own: the same commands on the same data, but for the
-- time. The simulation appends its milliseconds to every call's arguments; entry ids, TIME, the idle
-- times of pending entries and the expiry of a SET are of that clock, which stands far before the
-- server's. A call is answered with its reply and what it did: {reply, log entries written, bells rung,
-- chunks written, entries stolen}.

local now_of_call, written, bells, chunks, thefts

local function call_redis(...)
    return redis.call(...)
end

local function pcall_redis(...)
    return redis.pcall(...)
end

local function register_with_redis(...)
    redis.register_function(...)
end

local function digits(number)
    return string.format('%.0f', number)
end

local function server_ms()
    local time = call_redis('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- An entry was delivered now, by the simulation's clock.
local function stamp(lane, group, consumer, entry)
    call_redis('XCLAIM', lane, group, consumer, 0, entry, 'TIME', digits(now_of_call), 'JUSTID')
end

local routes = {}

function routes.TIME()
    return { digits(math.floor(now_of_call / 1000)), digits(now_of_call % 1000 * 1000) }
end

-- The log and the lanes leave their ids to the clock; an output chunk's id is its claim and sequence.
function routes.XADD(run, key, ...)
    local args = { ... }
    if args[1] == '*' then
        args[1] = digits(now_of_call) .. '-*'
        local id = run('XADD', key, unpack(args))
        if string.find(key, '}:log$') then
            local fields = {}
            for i = 2, #args do
                fields[i - 1] = tostring(args[i])
            end
            written[#written + 1] = { key, id, fields }
        end
        return id
    end
    local reply = run('XADD', key, ...)
    if type(reply) == 'string' then
        chunks[#chunks + 1] = { key, reply, args[#args] }
    end
    return reply
end

function routes.XREADGROUP(run, ...)
    local args = { ... }
    local reply = run('XREADGROUP', ...)
    if reply and not reply.err then
        for _, stream in ipairs(reply) do
            for _, entry in ipairs(stream[2]) do
                stamp(stream[1], args[2], args[3], entry[1])
            end
        end
    end
    return reply
end

-- A renewal. It must not take an entry from whom it belongs to.
function routes.XCLAIM(run, lane, group, consumer, idle, entry, ...)
    local pending = call_redis('XPENDING', lane, group, entry, entry, 1)[1]
    if pending and pending[2] ~= consumer then
        thefts[#thefts + 1] = { lane, entry, pending[2], consumer }
    end
    return run('XCLAIM', lane, group, consumer, idle, entry, 'TIME', digits(now_of_call), ...)
end

-- An idle time, which the server counts on its own clock.
local function server_idle(idle)
    return digits(tonumber(idle) + server_ms() - now_of_call)
end

function routes.XPENDING(run, lane, group, option, idle, ...)
    if option == 'IDLE' then
        return run('XPENDING', lane, group, option, server_idle(idle), ...)
    end
    return run('XPENDING', lane, group, option, idle, ...)
end

function routes.XAUTOCLAIM(run, lane, group, consumer, idle, ...)
    local reply = run('XAUTOCLAIM', lane, group, consumer, server_idle(idle), ...)
    if not reply.err then
        for _, entry in ipairs(reply[2]) do
            stamp(lane, group, consumer, entry[1])
        end
    end
    return reply
end

function routes.SET(run, key, value, px, milliseconds)
    if px == 'PX' then
        call_redis('HSET', 'simulation:expires', key, digits(now_of_call + milliseconds))
        return run('SET', key, value)
    end
    return run('SET', key, value)
end

function routes.GET(run, key)
    local expires = call_redis('HGET', 'simulation:expires', key)
    if expires and tonumber(expires) <= now_of_call then
        return false
    end
    return run('GET', key)
end

function routes.PUBLISH(_, channel, message)
    bells[#bells + 1] = { channel, tostring(message) }
    return 1
end

local redis = {
    call = function(name, ...)
        local route = routes[name]
        if route then
            return route(call_redis, ...)
        end
        return call_redis(name, ...)
    end,
    pcall = function(name, ...)
        local route = routes[name]
        if route then
            return route(pcall_redis, ...)
        end
        return pcall_redis(name, ...)
    end,
    register_function = function(spec)
        local callback = spec.callback
        spec.callback = function(keys, args)
            now_of_call = tonumber(table.remove(args))
            written, bells, chunks, thefts = {}, {}, {}, {}
            local reply = callback(keys, args)
            if reply == nil then
                reply = false -- Or the list would end with it.
            end
            return { reply, written, bells, chunks, thefts }
        end
        register_with_redis(spec)
    end,
}
