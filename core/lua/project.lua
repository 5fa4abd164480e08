-- project: apply a batch's changes to a view and move its checkpoint on, in one step.
--
-- KEYS  log, checkpoint, rows, names, parked
-- ARGV  {expected, at = {sequence, entry}, set, prefix, put = {subject …}, drop = {subject …},
--       places = {{name, {score, member …}, {member …}}}, added = {{name, {field, by …}}},
--       park = {subject, why …}, over = {name …}}, then the rows of `put`
--       expected: how many commits the view had had that the batch was folded onto
--       places: to enter, to leave; over: names of counters that are no longer kept
-- Reply {'ok', commits}; or, with nothing written:
--       {'moved'}          somebody else has committed, or the view is gone
--       {'held', ms}       somebody reads the view and needs it to stand still
--       {'lost'}           the log no longer has the entry that the batch ends with
--
-- It writes views and nothing else. Like an append it passes when Redis is full: what it writes is bounded
-- by what was accepted, and views that stop would tell operators nothing just when they look.

local CHUNK = 1000 -- As unpack has a limit.

local function in_chunks(command, key, values)
    for first = 1, #values, CHUNK do
        redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
    end
end

-- Say whether an entry is in the log, or was archived and trimmed.
local function has_entry(log, sequence, entry)
    local last = entry_at(log, entry)
    if last then
        return tonumber(field_of(last, 'q')) == sequence
    end
    local at = redis.call('HMGET', archived_of(log), 'sequence', 'entry')
    return at[1] and sequence <= tonumber(at[1]) and not is_before(at[2], entry)
end

local function refused_commit(keys, ask)
    local at = redis.call('HMGET', keys[2], 'commits', 'held_until_ms')
    if tonumber(at[1]) ~= ask.expected then
        return { 'moved' }
    end
    local held_ms = tonumber(at[2] or 0) - now_ms()
    if held_ms > 0 then
        return { 'held', held_ms }
    end
    local sequence, entry = unpack(ask.at)
    if entry ~= '0-0' and not has_entry(keys[1], sequence, entry) then
        return { 'lost' }
    end
end

local function put_rows(key, ask, args)
    local flat = {}
    for i, subject in ipairs(ask.put) do
        flat[2 * i - 1] = subject
        flat[2 * i] = args[i + 1]
    end
    in_chunks('HSET', key, flat)
    in_chunks('HDEL', key, ask.drop)
end

local function add_to(key, added)
    for i = 1, #added, 2 do
        if redis.call('HINCRBY', key, added[i], added[i + 1]) == 0 then
            redis.call('HDEL', key, added[i])
        end
    end
end

local function note_name(names, prefix, name)
    local is_there = redis.call('EXISTS', prefix .. name) == 1
    redis.call(is_there and 'SADD' or 'SREM', names, name)
end

local function project(keys, ask, args)
    local refused = refused_commit(keys, ask)
    if refused then
        return refused
    end
    put_rows(keys[3], ask, args)
    for _, place in ipairs(ask.places) do
        local name, entering, leaving = unpack(place)
        in_chunks('ZREM', ask.prefix .. name, leaving)
        in_chunks('ZADD', ask.prefix .. name, entering)
        note_name(keys[4], ask.prefix, name)
    end
    for _, counter in ipairs(ask.added) do
        local name, added = unpack(counter)
        add_to(ask.prefix .. name, added)
        note_name(keys[4], ask.prefix, name)
    end
    for _, name in ipairs(ask.over) do
        redis.call('UNLINK', ask.prefix .. name)
        redis.call('SREM', keys[4], name)
    end
    in_chunks('HSET', keys[5], ask.park)
    local commits = ask.expected + 1
    redis.call('HSET', keys[2], 'sequence', ask.at[1], 'entry', ask.at[2], 'commits', commits,
        unpack(ask.set))
    redis.call('HDEL', keys[2], 'stopped')
    redis.call('PUBLISH', 'respool:bell:views', keys[2])
    return { 'ok', commits }
end

-- project_rows: rows, and which commit they are of.
--
-- KEYS  checkpoint, rows
-- ARGV  {subjects}
-- Reply {commits (-1: there is no such view), each subject's row or nothing …}
local function rows_of(keys, ask)
    local reply = { tonumber(redis.call('HGET', keys[1], 'commits') or -1) }
    for i, subject in ipairs(ask.subjects) do
        reply[i + 1] = redis.call('HGET', keys[2], subject)
    end
    return reply
end

-- project_stopped: leave word that the view does not move on.
--
-- KEYS  checkpoint
-- ARGV  {why}
local function say_stopped(keys, ask)
    if redis.call('EXISTS', keys[1]) == 1 then
        redis.call('HSET', keys[1], 'stopped', ask.why)
    end
end

-- project_hold: let the view stand still for a while, or no longer.
--
-- KEYS  checkpoint
-- ARGV  {for_ms, until_ms}: how long from now on; 0: no longer, if it was held until then, and not by another
-- Reply {held until, commits}; nothing if there is no such view
--
-- A hold ends by itself, so that one whose holder was killed stops nobody for long.
local function hold(keys, ask)
    local at = redis.call('HMGET', keys[1], 'commits', 'held_until_ms')
    if not at[1] then
        return false
    end
    local until_ms = tonumber(at[2] or 0)
    if ask.for_ms > 0 then
        until_ms = math.max(until_ms, now_ms() + ask.for_ms)
        redis.call('HSET', keys[1], 'held_until_ms', string.format('%.0f', until_ms))
    elseif until_ms == ask.until_ms then
        redis.call('HDEL', keys[1], 'held_until_ms')
    end
    return { until_ms, tonumber(at[1]) }
end

register('project', project, { 'allow-oom' })
register('project_hold', hold, { 'allow-oom' })
register('project_stopped', say_stopped, { 'allow-oom' })
register('project_rows', rows_of, { 'allow-oom' })
