-- claim: hand waiting jobs to a worker, most urgent lane first, in one round trip.
--
-- KEYS  log, hungry, paused, lanes in the order in which to read them
-- ARGV  {consumer, want, prefix, lanes = {{lane, queue}}, oldest_first, hungry, own}
--       own: look again at what is already this consumer's, as a lost reply may have stranded it.
-- Reply a list of {entry id, job id, head, its first log entry, overdue}
--
-- XREADGROUP's COUNT is per stream, so lanes are read one by one with what is left to take. An entry
-- that is not its head's current one is left over from a transition: it is acknowledged and deleted.
-- It never is while the head still names it.

-- Returns how many entries it read, left over or not.
local function deliver(keys, ask, index, start, count, now, found)
    local lane = keys[index + 3]
    local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, ask.consumer, 'COUNT', count,
        'STREAMS', lane, start)
    if not reply or reply.err then
        return 0 -- Nothing there, or no such lane yet.
    end
    for _, entry in ipairs(reply[1][2]) do
        local job = entry[2] and field_of(entry, 'j')
        local head = job and redis.call('HGETALL', ask.prefix .. 'job:' .. job) or {}
        local at = table_of(head)
        if at.entry == entry[1] and at.lane == ask.lanes[index].lane then
            local submitted = entry_at(keys[1], at['1'])
            local overdue = at.deadline_at and tonumber(at.deadline_at) <= now
            found[#found + 1] = { entry[1], job, head, submitted or false, overdue and 1 or 0 }
        else
            redis.call('XACK', lane, GROUP, entry[1])
            redis.call('XDEL', lane, entry[1])
        end
    end
    return #reply[1][2]
end

-- The lane whose first waiting entry is the oldest of all.
local function oldest_lane(keys, ask, is_paused)
    local oldest, oldest_ms
    for i, lane in ipairs(ask.lanes) do
        local groups = redis.pcall('XINFO', 'GROUPS', keys[i + 3])
        if not groups.err and groups[1] and not is_paused[lane.queue] then
            local after = '(' .. table_of(groups[1])['last-delivered-id']
            local first = redis.call('XRANGE', keys[i + 3], after, '+', 'COUNT', 1)[1]
            if first and (not oldest or milliseconds_of(first[1]) < oldest_ms) then
                oldest, oldest_ms = i, milliseconds_of(first[1])
            end
        end
    end
    return oldest
end

local function claim(keys, ask)
    local found, now, is_paused = {}, now_ms(), {}
    for _, queue in ipairs(redis.call('SMEMBERS', keys[3])) do
        is_paused[queue] = true
    end
    if ask.own then
        for i = 1, #ask.lanes do
            deliver(keys, ask, i, '0', 1000, now, found)
        end
        return found
    end
    if ask.oldest_first then
        local oldest = oldest_lane(keys, ask, is_paused)
        if oldest then
            deliver(keys, ask, oldest, '>', 1, now, found)
        end
    end
    for i, lane in ipairs(ask.lanes) do
        -- An entry that turned out to be left over is not found, so read on until there is no more.
        local read = 1
        while #found < ask.want and read > 0 and not is_paused[lane.queue] do
            read = deliver(keys, ask, i, '>', ask.want - #found, now, found)
        end
    end
    if #found < ask.want and #ask.hungry > 0 then
        for _, serves in ipairs(ask.hungry) do -- One by one, as unpack has a limit.
            redis.call('SADD', keys[2], serves)
        end
    end
    return found
end

register('claim', claim, { 'allow-oom' })
