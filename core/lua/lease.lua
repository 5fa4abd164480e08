-- renew: keep what is still this consumer's. release: leave it to a newer release's workers. emit: write
-- output for a claim that is still current.

-- KEYS  pairs of lane, head
-- ARGV  {consumer, entries}
-- Reply for each pair {1 if still owned else 0, the head's version}
--
-- Without the owner check XCLAIM would steal back what was recovered; without JUSTID it would count as
-- a delivery.
local function renew(keys, ask)
    local replies = {}
    for i, entry in ipairs(ask.entries) do
        local lane, head = keys[2 * i - 1], keys[2 * i]
        local owned = owner_of(lane, entry) == ask.consumer
        if owned then
            redis.call('XCLAIM', lane, GROUP, ask.consumer, 0, entry, 'JUSTID')
        end
        replies[i] = { owned and 1 or 0, tonumber(redis.call('HGET', head, 'version') or 0) }
    end
    return replies
end

-- KEYS  lane, head
-- ARGV  {consumer, entry}
-- Reply 1, or 0 if it was no longer this consumer's
local function release(keys, ask)
    local at = table_of(redis.call('HGETALL', keys[2]))
    if owner_of(keys[1], ask.entry) ~= ask.consumer or at.entry ~= ask.entry then
        return 0
    end
    hand_over(keys[1], ask.entry, at)
    return 1
end

-- KEYS  pairs of head, output
-- ARGV  {writes = {{job, claim, worker, sequence of the first chunk, index of the first chunk, count}},
--       chunks_max, expires_ms}, then the chunks
-- Reply for each write 1, or 0 if the claim is not the current one: nothing was written
--
-- Entry ids are CLAIM-SEQUENCE, so what was written already is refused by Redis, which is as well.
local function emit_one(head, output, write, ask, args)
    local at = redis.call('HMGET', head, 'claims', 'worker') -- A job that does not run has no worker.
    if tonumber(at[1]) ~= write.claim or at[2] ~= write.worker then
        return 0
    end
    for i = 0, write.count - 1 do
        local id = write.claim .. '-' .. (write.sequence + i)
        local reply = redis.pcall('XADD', output, 'MAXLEN', '~', ask.chunks_max, id,
            'd', args[write.first + i])
        if type(reply) == 'table' and reply.err and not string.find(reply.err, 'equal or smaller') then
            error(reply)
        end
    end
    redis.call('PEXPIRE', output, ask.expires_ms)
    redis.call('PUBLISH', 'respool:bell:' .. write.job, 'output')
    return 1
end

local function emit(keys, ask, args)
    local replies = {}
    for i, write in ipairs(ask.writes) do
        replies[i] = emit_one(keys[2 * i - 1], keys[2 * i], write, ask, args)
    end
    return replies
end

register('renew', renew, { 'allow-oom' })
register('release', release, { 'allow-oom' })
register('emit', emit, { 'allow-oom' })
