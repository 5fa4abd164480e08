-- append, submit: the only writers of transitions.
--
-- KEYS  log, sequence, counts, timers, lanes, hungry, subjects, paused; then the keys that the records name by
--       their index: heads, lanes, idempotency keys, buckets.
-- ARGV  {watermark_percent, records}. Records are independent of each other: each is written whole or
--       not at all, and each gets a reply of its own:
--         {'ok', levels, log id of each event …}
--         {'conflict', head}                        the job has moved on; the newer head
--         {'refused', reason, detail, levels}       nothing was written, and nothing taken
--       levels: of the buckets that the record takes from, in how many milliseconds each is full again
--
-- A script does not roll back, so everything that could refuse comes before the first write.
-- `submit` is the same code: its records carry the watermark, so that a full Redis refuses new jobs,
-- never a completion. It has allow-oom too, or Redis itself would refuse a submission that is sent again
-- after its reply was lost, though the job is there.

local memory = { checked_ms = 0, percent = 0 }

-- Share of maxmemory in use, looked up at most every 100 ms, as INFO costs more than an append.
local function memory_percent(now)
    if now - memory.checked_ms >= 100 or now < memory.checked_ms then
        local info = redis.call('INFO', 'memory')
        local used = tonumber(string.match(info, 'used_memory:(%d+)'))
        local limit = tonumber(string.match(info, 'maxmemory:(%d+)'))
        memory.checked_ms = now
        memory.percent = limit > 0 and used * 100 / limit or 0
    end
    return memory.percent
end

-- What all records of a batch change: read once, kept here, and written once when they are through.
-- Nothing else can run in between, and a record that was refused has changed none of it.
local function read_totals(keys)
    local sequence = tonumber(redis.call('GET', keys[2]) or 0)
    return { stored = sequence, sequence = sequence, counts = {}, changed = {} }
end

local function count_of(keys, totals, field)
    if not totals.counts[field] then
        totals.counts[field] = tonumber(redis.call('HGET', keys[3], field) or 0)
    end
    return totals.counts[field] + (totals.changed[field] or 0)
end

local function write_totals(keys, totals)
    if totals.sequence > totals.stored then
        redis.call('SET', keys[2], string.format('%.0f', totals.sequence))
    end
    for field, change in pairs(totals.changed) do
        if redis.call('HINCRBY', keys[3], field, change) == 0 then
            redis.call('HDEL', keys[3], field) -- Clients name queues: what is over leaves nothing.
        end
    end
end

-- A bucket fills evenly, within a minute, and then holds what is allowed a minute. So the time at which it
-- will be full says all of it: what is taken moves that on by its share of the minute. That is the generic cell
-- rate algorithm's theoretical arrival time (ITU-T I.371, annex A; redis-cell does the same). In a hash of
-- buckets there is, for each, that time, and under NAME:limit what it holds, as its last taker had it.
local FILLS_IN_MS = 60000
local ROUNDED_MS = 0.5

-- What a bucket lacks, in milliseconds until it is full.
local function lack_ms(hash, name, now)
    return math.max(0, tonumber(redis.call('HGET', hash, name) or 0) - now)
end

local function levels_of(keys, take)
    if not take then
        return {}
    end
    local levels, now = {}, now_ms()
    for i, one in ipairs(take.buckets) do
        levels[i] = string.format('%.3f', lack_ms(keys[take.key], one[1], now))
    end
    return levels
end

-- The first bucket that does not hold what is to be taken, and one at least; nil if all do.
local function lacking(keys, take)
    local now = now_ms()
    for _, one in ipairs(take.buckets) do
        local name, limit, amount = unpack(one)
        local after_ms = lack_ms(keys[take.key], name, now) + math.max(1, amount) * FILLS_IN_MS / limit
        if after_ms > FILLS_IN_MS + ROUNDED_MS then
            return name
        end
    end
end

local function take_from(hash, name, limit, amount, now)
    local full_at = now + lack_ms(hash, name, now) + amount * FILLS_IN_MS / limit
    redis.call('HSET', hash, name, string.format('%.3f', full_at), name .. ':limit', limit)
end

local function take_all(keys, take)
    local now = now_ms()
    for _, one in ipairs(take.buckets) do
        take_from(keys[take.key], one[1], one[2], one[3], now)
    end
    redis.call('PEXPIRE', keys[take.key], take.keep_ms)
end

-- What was used is taken without asking, so a bucket may come to lack more than it holds. One that nobody is
-- held to is not there.
local function spend(keys, used)
    local hash, name, amount = keys[used[1]], used[2], used[3]
    local limit = tonumber(redis.call('HGET', hash, name .. ':limit') or 0)
    if limit > 0 then
        take_from(hash, name, limit, amount, now_ms())
    end
end

-- The answer to an append whose version is taken: its own, if it was written before and only the reply
-- got lost; else the conflict.
local function answer_again(keys, record)
    local head = keys[record.head]
    local first = event_at(keys[1], head, redis.call('HGET', head, tostring(record.expected + 1)))
    if not first or field_of(first, 'o') ~= record.op then
        return { 'conflict', redis.call('HGETALL', head) }
    end
    local reply = { 'ok', levels_of(keys, record.take) }
    for i = 1, #record.events do
        reply[i + 2] = redis.call('HGET', head, tostring(record.expected + i))
    end
    return reply
end

-- Why a record must not be written, or nil. `at` is the head: version, entry, schema, claims, worker.
--
-- The version alone does not say whose claim it is: a store that lost its tail gives the same versions
-- and claim numbers again, to others.
local function refusal(keys, record, at, totals, watermark)
    if at[3] and tonumber(at[3]) > record.schema then
        return { 'refused', 'newer_schema', at[3] }
    end
    if at[3] and tonumber(at[3]) < record.schema and not record.rewrite then
        return { 'refused', 'older_schema', at[3] } -- The change alone would leave two shapes in one head.
    end
    if record.fence then
        local claim, worker = unpack(record.fence)
        if tonumber(at[4]) ~= claim or at[5] ~= worker then
            return { 'refused', 'not_owner', at[5] or '' }
        end
    end
    if record.owner then
        local lane = keys[record.lane]
        if at[2] ~= record.entry or owner_of(lane, record.entry) ~= record.owner then
            return { 'refused', 'not_owner', at[2] or '' }
        end
    end
    if record.idempotency then
        local taken = redis.call('GET', keys[record.idempotency.key])
        if taken then
            return { 'refused', 'duplicate', taken }
        end
    end
    for _, limit in ipairs(record.limits or {}) do
        local counted = count_of(keys, totals, limit[1])
        if counted >= limit[2] then
            return { 'refused', 'full', { limit[1], tostring(counted) } }
        end
    end
    if record.take then
        local name = lacking(keys, record.take)
        if name then
            return { 'refused', 'lacking', name }
        end
    end
    if watermark and memory_percent(now_ms()) >= watermark then
        return { 'refused', 'out_of_memory', tostring(math.floor(memory.percent)) }
    end
end

local function write_events(keys, record, args, totals)
    local ids = {}
    for i, event in ipairs(record.events) do
        local fields = { 'j', record.subject, 'v', record.expected + i, 't', event[1],
            'd', args[event[2]], 'o', record.op, 'q', totals.sequence + 1, 's', record.schema }
        if record.readable_from < record.schema then
            fields[#fields + 1] = 'r'
            fields[#fields + 1] = record.readable_from
        end
        ids[i] = redis.call('XADD', keys[1], '*', unpack(fields))
        totals.sequence = totals.sequence + 1
    end
    return ids
end

-- A lane's group is made with the lane: a missing group fails whoever reads it.
local function enter_lane(keys, record)
    local lane = keys[record.enter.key]
    local is_new = redis.call('EXISTS', lane) == 0
    if is_new then
        redis.call('XGROUP', 'CREATE', lane, GROUP, '0', 'MKSTREAM')
        redis.call('SADD', keys[5], record.enter.name)
    end
    local entry = redis.call('XADD', lane, '*', 'j', record.subject)
    if redis.call('SREM', keys[6], record.enter.serves) == 1 or is_new then
        redis.call('PUBLISH', 'respool:bell:work', record.enter.serves)
    end
    return entry
end

-- What an older release wrote goes, but for what is kept here: log ids, times, the lane entry.
local KEPT = { entry = true, due_at = true, deadline_at = true }

local function forget_fields(head)
    for _, field in ipairs(redis.call('HKEYS', head)) do
        if not KEPT[field] and not tonumber(field) then
            redis.call('HDEL', head, field)
        end
    end
end

local function write_head(keys, record, ids, entry)
    local head, fields = keys[record.head], record.set
    if record.rewrite then
        forget_fields(head)
    end
    for i, id in ipairs(ids) do
        fields[#fields + 1] = tostring(record.expected + i)
        fields[#fields + 1] = id
    end
    if entry then
        fields[#fields + 1] = 'entry'
        fields[#fields + 1] = entry
    end
    redis.call('HSET', head, unpack(fields))
    if record.clear then
        redis.call('HDEL', head, unpack(record.clear))
    end
    if record.expires_ms then
        redis.call('PEXPIRE', head, record.expires_ms)
        redis.call('PEXPIRE', carried_of(head), record.expires_ms)
    elseif record.persist then
        redis.call('PERSIST', head)
        redis.call('PERSIST', carried_of(head))
    end
end

local function change_timers(keys, record)
    local head = keys[record.head]
    for _, timer in ipairs(record.disarm or {}) do
        redis.call('ZREM', keys[4], record.subject .. ':' .. timer)
        redis.call('HDEL', head, timer .. '_at')
    end
    for _, arm in ipairs(record.arm or {}) do
        local since = redis.call('HGET', head, tostring(arm.since))
        local due = milliseconds_of(since) + arm.delay_ms
        redis.call('ZADD', keys[4], due, record.subject .. ':' .. arm.timer)
        redis.call('HSET', head, arm.timer .. '_at', due)
    end
end

local function append_one(keys, record, args, totals, watermark)
    local head = keys[record.head]
    local at = redis.call('HMGET', head, 'version', 'entry', 'schema', 'claims', 'worker')
    local is_there = tonumber(at[1] or 0) == record.expected
    if not is_there and not (record.revives and not at[1]) then
        return answer_again(keys, record)
    end
    local refused = refusal(keys, record, at, totals, watermark)
    if refused then
        refused[4] = levels_of(keys, record.take)
        return refused
    end

    local ids = write_events(keys, record, args, totals)
    if record.leave then
        redis.call('XACK', keys[record.leave], GROUP, at[2])
        redis.call('XDEL', keys[record.leave], at[2])
    end
    write_head(keys, record, ids, record.enter and enter_lane(keys, record))
    change_timers(keys, record)
    for _, count in ipairs(record.counts or {}) do
        totals.changed[count[1]] = (totals.changed[count[1]] or 0) + count[2]
    end
    if record.idempotency then
        local idem = record.idempotency
        redis.call('SET', keys[idem.key], idem.value, 'PX', idem.expires_ms)
    end
    if record.pause then
        local queue, is_paused = unpack(record.pause)
        redis.call(is_paused and 'SADD' or 'SREM', keys[8], queue)
    end
    if record.register then
        redis.call('SADD', keys[7], record.subject)
    end
    if record.expected > 0 then
        redis.call('PUBLISH', 'respool:bell:' .. record.subject, record.expected + #ids)
    end
    if record.ring then
        redis.call('PUBLISH', 'respool:bell:' .. record.ring, record.subject)
    end
    if record.take then
        take_all(keys, record.take)
    end
    if record.spend then
        spend(keys, record.spend)
    end
    table.insert(ids, 1, 'ok')
    table.insert(ids, 2, levels_of(keys, record.take))
    return ids
end

local function append_all(keys, batch, args)
    local replies, totals = {}, read_totals(keys)
    for i, record in ipairs(batch.records) do
        local ok, reply = pcall(append_one, keys, record, args, totals, batch.watermark)
        if not ok then
            reply = { 'refused', 'error', type(reply) == 'table' and reply.err or tostring(reply), {} }
        end
        replies[i] = reply
    end
    write_totals(keys, totals)
    return replies
end

register('append', append_all, { 'allow-oom' })
register('submit', append_all, { 'allow-oom' })
