-- recover: take over entries whose consumer has been silent for a lease.
--
-- KEYS  lanes
-- ARGV  {consumer, lease_ms, cursors, count, prefix}
-- Reply for each lane {next cursor, entries as {entry id, job id, head}}
--
-- The caller keeps the cursors: XAUTOCLAIM looks at COUNT * 10 entries a call, so that starting at 0-0
-- each time would leave dead entries behind many live ones for ever. It drops deleted entries itself.
local function recover_lane(lane, cursor, ask)
    local reply = redis.pcall('XAUTOCLAIM', lane, GROUP, ask.consumer, ask.lease_ms, cursor,
        'COUNT', ask.count)
    if reply.err then
        return { '0-0', {} } -- No such lane.
    end
    local taken = {}
    for _, entry in ipairs(reply[2]) do
        local job = field_of(entry, 'j')
        local head = redis.call('HGETALL', ask.prefix .. 'job:' .. job)
        if table_of(head).entry == entry[1] then
            taken[#taken + 1] = { entry[1], job, head }
        else
            redis.call('XACK', lane, GROUP, entry[1])
            redis.call('XDEL', lane, entry[1])
        end
    end
    return { reply[1], taken }
end

local function recover(keys, ask)
    local replies = {}
    for i, lane in ipairs(keys) do
        replies[i] = recover_lane(lane, ask.cursors[i], ask)
    end
    return replies
end

register('recover', recover, { 'allow-oom' })
