-- seen: what is derived from the log, as it is at one moment, and how far the log goes at that moment.
-- It never fails for what it finds: whoever compares wants to hear of that, too.

local function or_empty(reply)
    return reply.err and {} or reply
end

-- KEYS  log, timers
-- ARGV  {prefix, subjects, entries = {{lane's key, entry} …}}
-- Reply {id of the log's last entry, now in ms, subjects, entries}
--       each subject {head, ms until it expires, due, deadline, whose its lane entry is, for whom that
--       is pending}; each of `entries` whose it is, or nothing
local function job_at(lane, entry)
    local found = or_empty(redis.pcall('XRANGE', lane, entry, entry))[1]
    return found and field_of(found, 'j') or false
end

local function owner_at(lane, entry)
    local pending = or_empty(redis.pcall('XPENDING', lane, GROUP, entry, entry, 1))
    return pending[1] and pending[1][2] or false
end

local function is_job(subject)
    return not string.find(subject, ':', 1, true)
end

local function head_of(ask, subject)
    return ask.prefix .. (is_job(subject) and 'job:' or '') .. subject
end

local function subject_seen(keys, ask, subject)
    local head = head_of(ask, subject)
    local flat = or_empty(redis.pcall('HGETALL', head))
    local seen, at = { flat, redis.call('PTTL', head), false, false, false, false }, table_of(flat)
    if is_job(subject) then
        seen[3] = redis.call('ZSCORE', keys[2], subject .. ':due')
        seen[4] = redis.call('ZSCORE', keys[2], subject .. ':deadline')
    end
    if at.entry and at.lane and at.queue and at.model then
        local lane = ask.prefix .. 'ready:' .. at.lane .. ':' .. at.queue .. ':' .. at.model
        seen[5], seen[6] = job_at(lane, at.entry), owner_at(lane, at.entry)
    end
    return seen
end

local function end_of(log)
    local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    return last and last[1] or '0-0', last and field_of(last, 'q') or '0'
end

local function seen(keys, ask)
    local subjects, entries = {}, {}
    for i, subject in ipairs(ask.subjects) do
        subjects[i] = subject_seen(keys, ask, subject)
    end
    for i, entry in ipairs(ask.entries) do
        entries[i] = job_at(entry[1], entry[2])
    end
    local last = end_of(keys[1])
    return { last, now_ms(), subjects, entries }
end

-- seen_heads: heads alone, of many, for a first look.
--
-- KEYS  log
-- ARGV  {prefix, subjects}
-- Reply {now in ms, for each subject {head, ms until it expires}}
local function seen_heads(_, ask)
    local heads = {}
    for i, subject in ipairs(ask.subjects) do
        local head = head_of(ask, subject)
        heads[i] = { or_empty(redis.pcall('HGETALL', head)), redis.call('PTTL', head) }
    end
    return { now_ms(), heads }
end

-- seen_totals: what is kept for a whole shard.
--
-- KEYS  log, sequence, counts, paused, subjects
-- ARGV  {prefix, facts = {worker or queue …}, jobs}
-- Reply {id and number of the log's last entry, the last id that it ever gave, sequence, counts, paused,
--       subjects, which of these have a head, which of `facts` have one, the heads of `jobs`}
local function exist(ask, subjects)
    local found = {}
    for i, subject in ipairs(subjects) do
        found[i] = redis.call('EXISTS', ask.prefix .. subject)
    end
    return found
end

local function seen_totals(keys, ask)
    local last, number = end_of(keys[1])
    local info = table_of(or_empty(redis.pcall('XINFO', 'STREAM', keys[1])))
    local subjects, heads = redis.call('SMEMBERS', keys[5]), {}
    for i, job in ipairs(ask.jobs) do
        heads[i] = or_empty(redis.pcall('HGETALL', ask.prefix .. 'job:' .. job))
    end
    return {
        last, tonumber(number), info['last-generated-id'] or '0-0',
        tonumber(redis.call('GET', keys[2]) or 0),
        redis.call('HGETALL', keys[3]), redis.call('SMEMBERS', keys[4]),
        subjects, exist(ask, subjects), exist(ask, ask.facts), heads,
    }
end

-- seen_lanes: which lanes there are.
--
-- KEYS  lanes
-- ARGV  {prefix, names}
-- Reply for each name {1 if the lane is there, 1 if it is listed, 1 if it has its group}
local function seen_lanes(keys, ask)
    local replies = {}
    for i, name in ipairs(ask.names) do
        local lane, has_group = ask.prefix .. 'ready:' .. name, 0
        for _, group in ipairs(or_empty(redis.pcall('XINFO', 'GROUPS', lane))) do
            has_group = table_of(group).name == GROUP and 1 or has_group
        end
        replies[i] = { redis.call('EXISTS', lane), redis.call('SISMEMBER', keys[1], name), has_group }
    end
    return replies
end

-- seen_pending: which of some entries are pending in a lane that does not have them.
--
-- KEYS  lane
-- ARGV  {entries}
local function seen_pending(keys, ask)
    local left = {}
    for _, entry in ipairs(ask.entries) do
        if owner_at(keys[1], entry) and not job_at(keys[1], entry) then
            left[#left + 1] = entry
        end
    end
    return left
end

register('seen', seen, { 'no-writes' })
register('seen_heads', seen_heads, { 'no-writes' })
register('seen_totals', seen_totals, { 'no-writes' })
register('seen_lanes', seen_lanes, { 'no-writes' })
register('seen_pending', seen_pending, { 'no-writes' })
