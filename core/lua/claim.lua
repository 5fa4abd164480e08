-- claim: hand waiting jobs to a worker, most urgent lane first, in one round trip.
--
-- KEYS  log, hungry, paused, lanes in the order in which to read them
-- ARGV  {consumer, want, prefix, lanes = {{lane, queue}}, oldest_first, hungry, own, schema}
--       own: look again at what is already this consumer's, as a lost reply may have stranded it.
-- Reply {jobs handed over to a newer release's workers, {entry id, job id, head, its first log entry, overdue} …}
--
-- XREADGROUP's COUNT is per stream, so lanes are read one by one with what is left to take. An entry
-- that is not its head's current one is left over from a transition: it is acknowledged and deleted.
-- It never is while the head still names it.

-- What comes of an entry that is this consumer's now.
local function sort_out(keys, ask, index, entry, now, found)
    local lane = keys[index + 3]
    local job = entry[2] and field_of(entry, 'j')
    local head = job and redis.call('HGETALL', ask.prefix .. 'job:' .. job) or {}
    local at = table_of(head)
    if at.entry ~= entry[1] or at.lane ~= ask.lanes[index].lane then
        redis.call('XACK', lane, GROUP, entry[1])
        redis.call('XDEL', lane, entry[1])
    elseif is_newer(at, ask) then
        hand_over(lane, entry[1], at)
        found.handed_over[#found.handed_over + 1] = job
    else
        local submitted = event_at(keys[1], ask.prefix .. 'job:' .. job, at['1'])
        local overdue = at.deadline_at and tonumber(at.deadline_at) <= now
        found[#found + 1] = { entry[1], job, head, submitted or false, overdue and 1 or 0 }
    end
end

-- Returns how many entries it read, whatever came of them.
local function deliver(keys, ask, index, start, count, now, found)
    local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, ask.consumer, 'COUNT', count,
        'STREAMS', keys[index + 3], start)
    if not reply or reply.err then
        return 0 -- Nothing there, or no such lane yet.
    end
    for _, entry in ipairs(reply[1][2]) do
        sort_out(keys, ask, index, entry, now, found)
    end
    return #reply[1][2]
end

-- What an older release's workers read and could not take. It waited before what is yet to be read.
local function take_handed_over(keys, ask, index, now, found)
    local lane = keys[index + 3]
    local rows = redis.pcall('XPENDING', lane, GROUP, '-', '+', ask.want - #found, HANDED_OVER)
    for _, row in ipairs(rows.err and {} or rows) do
        local entry = entry_at(lane, row[1])
        local job = entry and field_of(entry, 'j')
        local at = job and table_of(redis.call('HGETALL', ask.prefix .. 'job:' .. job)) or {}
        if not at.worker and not is_newer(at, ask) then
            redis.call('XCLAIM', lane, GROUP, ask.consumer, 0, row[1], 'JUSTID')
            sort_out(keys, ask, index, entry or { row[1] }, now, found)
        end
    end
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

local function reply_of(found)
    table.insert(found, 1, found.handed_over)
    return found
end

local function claim(keys, ask)
    local found, now, is_paused = { handed_over = {} }, now_ms(), {}
    for _, queue in ipairs(redis.call('SMEMBERS', keys[3])) do
        is_paused[queue] = true
    end
    if ask.own then
        for i = 1, #ask.lanes do
            deliver(keys, ask, i, '0', 1000, now, found)
        end
        return reply_of(found)
    end
    if ask.oldest_first then
        local oldest = oldest_lane(keys, ask, is_paused)
        if oldest then
            deliver(keys, ask, oldest, '>', 1, now, found)
        end
    end
    for i, lane in ipairs(ask.lanes) do
        if #found < ask.want and not is_paused[lane.queue] then
            take_handed_over(keys, ask, i, now, found)
        end
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
    return reply_of(found)
end

register('claim', claim, { 'allow-oom' })
