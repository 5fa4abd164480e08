-- roster, beat: the workers that there are. pause: queues, on shards that do not have their facts.

-- KEYS  subjects
-- ARGV  {prefix}
-- Reply a list of {worker's name, head, heartbeat}; whoever's head has expired is struck off
local function roster(keys, ask)
    local rows = {}
    for _, subject in ipairs(redis.call('SMEMBERS', keys[1])) do
        local name = string.match(subject, '^worker:(.*)')
        if name then
            local head = redis.call('HGETALL', ask.prefix .. subject)
            if #head == 0 then
                redis.call('SREM', keys[1], subject)
            else
                rows[#rows + 1] = { name, head, redis.call('GET', ask.prefix .. 'alive:' .. name) }
            end
        end
    end
    return rows
end

-- KEYS  heartbeat, the worker's head
-- ARGV  {expires_ms}, then what the worker says of itself
-- Reply what the log says of the worker: a status, or nothing
--
-- A function because SET is refused when Redis is full, and then no worker could finish anything.
local function beat(keys, ask, args)
    redis.call('SET', keys[1], args[2], 'PX', ask.expires_ms)
    return redis.call('HGET', keys[2], 'status')
end

-- KEYS  paused
-- ARGV  {queues}: all that are paused, by the facts on shard 0
local function pause(keys, ask)
    redis.call('DEL', keys[1])
    for _, queue in ipairs(ask.queues) do -- One by one, as unpack has a limit.
        redis.call('SADD', keys[1], queue)
    end
end

register('beat', beat, { 'allow-oom' })
register('roster', roster, { 'allow-oom' })
register('pause', pause, { 'allow-oom' })
