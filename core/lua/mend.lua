-- mend: write what is derived for one subject as the log has it. mend_totals: the same for a shard.
--
-- These do not decide anything: the caller has folded the log, and says up to where. A subject that has an
-- entry after that is left alone, as then what is said of it is old.
--
-- KEYS  log, sequence, counts, timers, lanes, hungry, head; its lane, if it belongs in one; lanes of strays
-- ARGV  {subject, after, set = {field, value …}, expires_at_ms, timers = {{name, score or false} …},
--       enter = {name, serves}, entries = {entry …}, worker, strays = {{index of the lane, entry} …}}
--       set: the whole head, but for its lane entry; empty: there is to be none
--       expires_at_ms: of a head that has no expiry yet, though it should; absent: it should have none
--       entries: those that may be its own, in the lane; worker: for whom it is to be pending
-- Reply 'ok'; or, with nothing written, 'moved' (the subject has newer entries in the log), or 'behind'
--       (there are too many newer entries to look through)

local LOOK_AT_MOST = 2000

local function has_moved(log, after, subject)
    local newer = redis.call('XRANGE', log, '(' .. after, '+', 'COUNT', LOOK_AT_MOST)
    for _, entry in ipairs(newer) do
        if field_of(entry, 'j') == subject then
            return 'moved'
        end
    end
    return #newer == LOOK_AT_MOST and 'behind'
end

local function keep_group(lane)
    for _, group in ipairs(or_empty(redis.pcall('XINFO', 'GROUPS', lane))) do
        if table_of(group).name == GROUP then
            return
        end
    end
    redis.call('XGROUP', 'CREATE', lane, GROUP, '0')
end

-- The entry that the subject has in its lane, or a new one: at the end, as a stream has no other place.
local function own_entry(keys, ask)
    local lane = keys[8]
    if redis.call('EXISTS', lane) == 1 then
        keep_group(lane)
        redis.call('SADD', keys[5], ask.enter.name)
        for _, entry in ipairs(ask.entries) do
            local holder = job_at(lane, entry)
            if holder == ask.subject then
                return entry
            elseif not holder then
                redis.pcall('XACK', lane, GROUP, entry) -- It may still be pending.
            end
        end
    end
    local enter = { key = 8, name = ask.enter.name, serves = ask.enter.serves }
    return enter_lane(keys, { enter = enter, subject = ask.subject })
end

-- A running job's entry is made pending for its worker. If that holds the job by an entry that is gone, its
-- next renewal tells it that the job is lost; and nobody renews the new one, so it is recovered after a
-- lease. If it finishes first, that counts: its claim stands.
local function keep_in_lane(keys, ask)
    if not ask.enter then
        return nil
    end
    local entry = own_entry(keys, ask)
    if ask.worker and not owner_at(keys[8], entry) then
        redis.call('XCLAIM', keys[8], GROUP, ask.worker, 0, entry, 'FORCE', 'JUSTID')
    end
    return entry
end

local function rewrite_head(head, ask, entry)
    local left_ms = redis.call('PTTL', head)
    redis.call('DEL', head)
    in_chunks('HSET', head, ask.set)
    if entry then
        redis.call('HSET', head, 'entry', entry)
    end
    if ask.expires_at_ms then
        local at_ms = left_ms > 0 and now_ms() + left_ms or ask.expires_at_ms
        redis.call('PEXPIREAT', head, at_ms)
        redis.call('PEXPIREAT', carried_of(head), at_ms)
    else
        redis.call('PERSIST', carried_of(head))
    end
end

local function mend(keys, ask)
    local refused = has_moved(keys[1], ask.after, ask.subject)
    if refused then
        return refused
    end
    local entry = keep_in_lane(keys, ask)
    for _, stray in ipairs(ask.strays) do
        if stray[1] ~= 8 or stray[2] ~= entry then
            redis.pcall('XACK', keys[stray[1]], GROUP, stray[2])
            redis.pcall('XDEL', keys[stray[1]], stray[2])
        end
    end
    rewrite_head(keys[7], ask, entry)
    for _, timer in ipairs(ask.timers) do
        local member = ask.subject .. ':' .. timer[1]
        if timer[2] then
            redis.call('ZADD', keys[4], timer[2], member)
        else
            redis.call('ZREM', keys[4], member)
        end
    end
    redis.call('PUBLISH', 'respool:bell:' .. ask.subject, 'mended')
    return 'ok'
end

-- KEYS  log, sequence, counts, lanes, subjects, paused; lanes that have pending what is gone
-- ARGV  {prefix, counts = {{field, by} …}, lanes, subjects, queues, renumber, pending = {{index, entry} …}}
--       counts: what is missing in each, which stays so whatever is appended meanwhile
--
-- Which lanes and subjects there are, which queues are paused and how far the log goes is looked up here.
local function mend_totals(keys, ask)
    for _, count in ipairs(ask.counts) do
        if redis.call('HINCRBY', keys[3], count[1], count[2]) == 0 then
            redis.call('HDEL', keys[3], count[1])
        end
    end
    for _, name in ipairs(ask.lanes) do
        local lane = ask.prefix .. 'ready:' .. name
        local is_there = redis.call('EXISTS', lane) == 1
        redis.call(is_there and 'SADD' or 'SREM', keys[4], name)
        if is_there then
            keep_group(lane)
        end
    end
    for _, subject in ipairs(ask.subjects) do
        local is_there = redis.call('EXISTS', ask.prefix .. subject) == 1
        redis.call(is_there and 'SADD' or 'SREM', keys[5], subject)
    end
    for _, queue in ipairs(ask.queues) do
        local is_paused = redis.call('HGET', ask.prefix .. 'queue:' .. queue, 'paused') == '1'
        redis.call(is_paused and 'SADD' or 'SREM', keys[6], queue)
    end
    for _, entry in ipairs(ask.pending) do
        if not job_at(keys[entry[1]], entry[2]) then
            redis.pcall('XACK', keys[entry[1]], GROUP, entry[2])
        end
    end
    if ask.renumber then
        local _, number = end_of(keys[1])
        redis.call('SET', keys[2], number)
    end
    return 'ok'
end

register('mend', mend, { 'allow-oom' })
register('mend_totals', mend_totals, { 'allow-oom' })
