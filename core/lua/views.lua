-- views_*: what readers see of a view. Each is one step, so that its answer is of one position.
--
-- Replies begin with the checkpoint: {sequence, entry, why it stands still or ''}; with {} there is no
-- such view. What a view consists of, `projections/` says.

local CELL = 'cell:'
local REFILL = 16

local function position(checkpoint)
    local at = redis.call('HMGET', checkpoint, 'sequence', 'entry', 'stopped')
    return at[1] and { tonumber(at[1]), at[2], at[3] or '' } or {}
end

-- The cells that match: `wanted` has sets of statuses, queues, tenants and models (as names have them);
-- an absent one means any.
local function matching_cells(names, wanted)
    local cells = {}
    for _, name in ipairs(redis.call('SMEMBERS', names)) do
        if string.sub(name, 1, #CELL) == CELL then
            local status, queue, tenant, model = string.match(name, '^cell:([^:]*):([^:]*):([^:]*):(.*)$')
            if (not wanted.status or wanted.status[status]) and (not wanted.queue or wanted.queue == queue)
                and (not wanted.tenant or wanted.tenant == tenant)
                and (not wanted.model or wanted.model == model) then
                cells[#cells + 1] = name
            end
        end
    end
    return cells
end

-- The newest members of a cell that are older than `before`.
local function refill(cell, ask, before, count)
    cell.members = redis.call('ZRANGE', ask.prefix .. cell.name, before, ask.from, 'BYLEX', 'REV',
        'LIMIT', 0, count)
    cell.at = 1
end

-- Only the `limit` cells with the newest first members can have anything among the newest `limit`.
local function newest_cells(names, ask)
    local cells = {}
    for _, name in ipairs(matching_cells(names, ask.wanted)) do
        local cell = { name = name }
        refill(cell, ask, ask.before, 1)
        if cell.members[1] then
            cells[#cells + 1] = cell
        end
    end
    table.sort(cells, function(a, b) return a.members[1] > b.members[1] end)
    for i = ask.limit + 1, #cells do
        cells[i] = nil
    end
    return cells
end

-- KEYS  checkpoint, names, rows
-- ARGV  {prefix, wanted, before, from, limit, digits}: bounds as ZRANGE BYLEX takes them; how many
--       digits of a member come before the job's id
-- Reply {checkpoint, {member, row} …}, newest first
local function list(keys, ask)
    local reply, cells = { position(keys[1]) }, newest_cells(keys[2], ask)
    while #reply <= ask.limit do
        local newest
        for _, cell in ipairs(cells) do
            local member = cell.members[cell.at]
            if member and (not newest or member > newest.members[newest.at]) then
                newest = cell
            end
        end
        if not newest then
            break
        end
        local member = newest.members[newest.at]
        local job = string.sub(member, ask.digits + 1)
        reply[#reply + 1] = { member, redis.call('HGET', keys[3], job) }
        newest.at = newest.at + 1
        if newest.at > #newest.members then
            refill(newest, ask, '(' .. member, REFILL)
        end
    end
    return reply
end

-- KEYS  checkpoint, hashes …
-- Reply {checkpoint, each hash …}
local function hashes(keys, _)
    local reply = { position(keys[1]) }
    for i = 2, #keys do
        reply[i] = redis.call('HGETALL', keys[i])
    end
    return reply
end

-- KEYS  checkpoint, names, rows
-- ARGV  {prefix}
-- Reply {checkpoint, {line's name, its length, the row of who is first in it} …}
local function lines(keys, ask)
    local reply = { position(keys[1]) }
    for _, name in ipairs(redis.call('SMEMBERS', keys[2])) do
        if string.sub(name, 1, 5) == 'line:' then
            local first = redis.call('ZRANGE', ask.prefix .. name, 0, 0)[1]
            if first then
                local waiting = redis.call('ZCARD', ask.prefix .. name)
                reply[#reply + 1] = { name, waiting, redis.call('HGET', keys[3], first) }
            end
        end
    end
    return reply
end

-- KEYS  checkpoint, rows
-- ARGV  {prefix, subjects, running = {set of each subject …}}
-- Reply {checkpoint, {row, {what it runs, since …}} …}
local function working(keys, ask)
    local reply = { position(keys[1]) }
    for i, subject in ipairs(ask.subjects) do
        reply[i + 1] = {
            redis.call('HGET', keys[2], subject),
            redis.call('ZRANGE', ask.prefix .. ask.running[i], 0, -1, 'WITHSCORES'),
        }
    end
    return reply
end

-- KEYS  checkpoint, lines in the order of their urgency
-- ARGV  {job}
-- Reply {checkpoint, how many wait before it; -1 if it does not wait}
local function rank(keys, ask)
    local before = 0
    for i = 2, #keys do
        local at = redis.call('ZRANK', keys[i], ask.job)
        if at then
            return { position(keys[1]), before + at }
        end
        before = before + redis.call('ZCARD', keys[i])
    end
    return { position(keys[1]), -1 }
end

register('views_list', list, { 'allow-oom' })
register('views_hashes', hashes, { 'allow-oom' })
register('views_lines', lines, { 'allow-oom' })
register('views_working', working, { 'allow-oom' })
register('views_rank', rank, { 'allow-oom' })
