-- view: one job as a client sees it, in one round trip.
--
-- KEYS  log, head
-- ARGV  {}
-- Reply {head, its first log entry, its last}; the head is empty if there is no job. That it was forgotten says
--       nothing of how a job ended, so the last one is what came before that
local function view(keys, _)
    local head = redis.call('HGETALL', keys[2])
    local at = table_of(head)
    local version = at.forgotten and tostring(tonumber(at.version) - 1) or at.version
    local first = event_at(keys[1], keys[2], at['1'])
    local last = event_at(keys[1], keys[2], at[version])
    return { head, first or false, last or false }
end

-- KEYS  heads
local function heads(keys, _)
    local replies = {}
    for i, key in ipairs(keys) do
        replies[i] = redis.call('HGETALL', key)
    end
    return replies
end

-- KEYS  log, heads …
-- ARGV  {}
-- Reply for each head its job's log entries, oldest first
local function history(keys, _)
    local replies = {}
    for i = 2, #keys do
        local at, entries = table_of(redis.call('HGETALL', keys[i])), {}
        for version = 1, tonumber(at.version or 0) do
            entries[#entries + 1] = event_at(keys[1], keys[i], at[tostring(version)]) or nil
        end
        replies[i - 1] = entries
    end
    return replies
end

register('heads', heads, { 'no-writes' })
register('view', view, { 'no-writes' })
register('history', history, { 'no-writes' })
