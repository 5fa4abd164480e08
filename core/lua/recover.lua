-- recover: take over entries whose consumer has been silent for a lease.
--
-- KEYS  watch, lanes
-- ARGV  {consumer, lease_ms, outage_ms, cursors, count, prefix, schema}
-- Reply {milliseconds until anything may be recovered (0: now),
--        for each lane {next cursor, entries as {entry id, job id, head, owner}}}
--
-- The caller keeps the cursors: XAUTOCLAIM looks at COUNT * 10 entries a call, so that starting at 0-0
-- each time would leave dead entries behind many live ones for ever. It drops deleted entries itself.

-- Every worker calls once a second. If none did for `outage_ms`, then none could: Redis was frozen or
-- away, or they were all cut off. Nobody could renew meanwhile, and idle times ran on all the same, so
-- for one lease silence proves nothing. This is kept here, by Redis's clock, because a worker that has
-- just started and a call that was in flight when Redis froze know nothing of an outage.
local function wait_ms(watch, ask)
    local now = now_ms()
    local at = redis.call('HMGET', watch, 'looked_ms', 'not_before_ms')
    local looked, not_before = tonumber(at[1] or now), tonumber(at[2] or now)
    if math.abs(now - looked) > ask.outage_ms then
        not_before = now + ask.lease_ms
    end
    redis.call('HSET', watch, 'looked_ms', now, 'not_before_ms', not_before)
    return math.max(0, not_before - now)
end

-- Who held the silent entries from `cursor` on. Asked first, as XAUTOCLAIM does not tell.
local function owners_from(lane, cursor, ask)
    local owners = {}
    local rows = redis.call('XPENDING', lane, GROUP, 'IDLE', ask.lease_ms, cursor, '+', ask.count)
    for _, row in ipairs(rows) do
        owners[row[1]] = row[2]
    end
    return owners
end

-- XAUTOCLAIM does not ask whose head it is. What this release can do nothing with goes back to whom it
-- was taken from, and is as silent as it was, for a newer release's worker to find at its next look. A
-- waiting job that was handed over is recovered by nobody, as it is not lost: it waits for a claim.
local function give_back(lane, entry, owner, at)
    if owner == HANDED_OVER or owner == '' then
        hand_over(lane, entry, at)
    else
        redis.call('XCLAIM', lane, GROUP, owner, 0, entry, 'TIME', 0, 'JUSTID')
    end
end

local function recover_lane(lane, cursor, ask)
    if redis.call('EXISTS', lane) == 0 then
        return { '0-0', {} }
    end
    local owners = owners_from(lane, cursor, ask)
    local reply = redis.call('XAUTOCLAIM', lane, GROUP, ask.consumer, ask.lease_ms, cursor,
        'COUNT', ask.count)
    local taken = {}
    for _, entry in ipairs(reply[2]) do
        local job = field_of(entry, 'j')
        local head = redis.call('HGETALL', ask.prefix .. 'job:' .. job)
        local at, owner = table_of(head), owners[entry[1]] or ''
        if at.entry ~= entry[1] then
            redis.call('XACK', lane, GROUP, entry[1])
            redis.call('XDEL', lane, entry[1])
        elseif is_newer(at, ask) or (owner == HANDED_OVER and not at.worker) then
            give_back(lane, entry[1], owner, at)
        else
            taken[#taken + 1] = { entry[1], job, head, owner }
        end
    end
    return { reply[1], taken }
end

local function recover(keys, ask)
    local replies = { wait_ms(keys[1], ask) }
    for i = 2, #keys do
        if replies[1] == 0 then
            replies[i] = recover_lane(keys[i], ask.cursors[i - 1], ask)
        else
            replies[i] = { ask.cursors[i - 1], {} }
        end
    end
    return replies
end

-- tidy: strike off consumers that are gone, and lanes that nothing waits in any more.
--
-- KEYS  lanes, hungry, ready lanes …
-- ARGV  {prefix, idle_ms, names = {{lane, serves}}, living = {consumer = true}}
-- Reply {consumers struck off, lanes struck off}
--
-- XGROUP DELCONSUMER would throw away what a consumer has pending, and there is nobody to recover it
-- then: so only one that has nothing. One that is alive after all is made anew when it next reads.
local function strike_consumers(lane, ask)
    local struck = 0
    for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', lane, GROUP)) do
        local consumer = table_of(row)
        if consumer.pending == 0 and consumer.idle >= ask.idle_ms and not ask.living[consumer.name] then
            redis.call('XGROUP', 'DELCONSUMER', lane, GROUP, consumer.name)
            struck = struck + 1
        end
    end
    return struck
end

local function is_over(lane, ask)
    local info = table_of(redis.call('XINFO', 'STREAM', lane))
    local silent_ms = now_ms() - milliseconds_of(info['last-generated-id'])
    return info.length == 0 and silent_ms >= ask.idle_ms
end

-- A worker is woken for the first entry of a new lane anyway, so nobody needs to be hungry for it.
local function strike_lane(keys, lane, name, ask)
    redis.call('DEL', lane)
    redis.call('SREM', keys[1], name.lane .. ':' .. name.serves)
    for _, urgency in ipairs({ 'front', 'high', 'normal', 'low' }) do
        if redis.call('EXISTS', ask.prefix .. 'ready:' .. urgency .. ':' .. name.serves) == 1 then
            return
        end
    end
    redis.call('SREM', keys[2], name.serves)
end

local function tidy(keys, ask)
    local consumers, lanes = 0, 0
    for i, name in ipairs(ask.names) do
        local lane = keys[i + 2]
        local is_there = redis.call('EXISTS', lane) == 1
        if is_there then
            consumers = consumers + strike_consumers(lane, ask)
        end
        if not is_there or is_over(lane, ask) then
            strike_lane(keys, lane, name, ask)
            lanes = lanes + 1
        end
    end
    return { consumers, lanes }
end

register('recover', recover, { 'allow-oom' })
register('tidy', tidy, { 'allow-oom' })
