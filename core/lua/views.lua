-- views_*: what readers see of a view. Each is one step, so that its answer is of one position.
--
-- Replies begin with the checkpoint: {sequence, entry, why it stands still or ''}; with {} there is no
-- such view. What a view consists of, `projections/` says.

local ALL = 'all'
local CELL = 'cell:'
local LINE = 'line:'

local function position(checkpoint)
    local at = redis.call('HMGET', checkpoint, 'sequence', 'entry', 'stopped')
    return at[1] and { tonumber(at[1]), at[2], at[3] or '' } or {}
end

-- The cells that match: `wanted` has sets of statuses, queues, tenants and models (as names have them);
-- an absent one means any. Without any of them it is the set of all jobs.
local function matching_cells(names, wanted)
    if next(wanted) == nil then
        return { ALL }
    end
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

-- The newest `count` members of a cell that are older than `before`.
local function read_cell(name, ask, before, count)
    return redis.call('ZRANGE', ask.prefix .. name, before, ask.from, 'BYLEX', 'REV', 'LIMIT', 0, count)
end

-- Put a cell among others, which are sorted by what comes next in them, the newest last.
local function put(cells, cell)
    local low, high = 1, #cells + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        if cells[middle].next > cell.next then
            high = middle
        else
            low = middle + 1
        end
    end
    table.insert(cells, low, cell)
end

-- The cells with the newest members; no more cells than members are wanted, as another one cannot have
-- any of those.
local function newest_cells(names, ask)
    local cells = {}
    for _, name in ipairs(matching_cells(names, ask.wanted)) do
        local members = read_cell(name, ask, ask.before, 1)
        local next = members[1]
        if next and (#cells < ask.limit or next > cells[1].next) then
            put(cells, { name = name, members = members, at = 1, next = next })
            if #cells > ask.limit then
                table.remove(cells, 1)
            end
        end
    end
    return cells
end

-- A cell without the member that was taken. Each time that one is read on, it is by twice as much: so it
-- is read at most twice as far as it is shown.
local function read_on(cell, ask, left)
    cell.at = cell.at + 1
    cell.next = cell.members[cell.at]
    if not cell.next and left > 0 then
        local read = #cell.members
        cell.members = read_cell(cell.name, ask, '(' .. cell.members[read], math.min(2 * read, left))
        cell.at, cell.next = 1, cell.members[1]
    end
    return cell.next
end

-- KEYS  checkpoint, names, rows
-- ARGV  {prefix, wanted, before, from, limit, digits}: bounds as ZRANGE BYLEX takes them; how many
--       digits of a member come before the job's id
-- Reply {checkpoint, {member …}, {row …}}, newest first
local function list(keys, ask)
    local cells, members, jobs = newest_cells(keys[2], ask), {}, {}
    while #cells > 0 and #members < ask.limit do
        local cell = table.remove(cells)
        members[#members + 1] = cell.next
        jobs[#jobs + 1] = string.sub(cell.next, ask.digits + 1)
        if read_on(cell, ask, ask.limit - #members) then
            put(cells, cell)
        end
    end
    local rows = jobs[1] and redis.call('HMGET', keys[3], unpack(jobs)) or {}
    return { position(keys[1]), members, rows }
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

-- Counters in several buckets of time, each field added up: {field, sum …}.
local function summed(keys, first, last)
    local sums, flat = {}, {}
    for i = first, last do
        local counters = redis.call('HGETALL', keys[i])
        for at = 1, #counters, 2 do
            sums[counters[at]] = (sums[counters[at]] or 0) + tonumber(counters[at + 1])
        end
    end
    for field, sum in pairs(sums) do
        flat[#flat + 1] = field
        flat[#flat + 1] = sum
    end
    return flat
end

-- Who is first in each line: {the line's name, the row …}.
local function firsts(names, rows, prefix)
    local flat = {}
    for _, name in ipairs(redis.call('SMEMBERS', names)) do
        if string.sub(name, 1, #LINE) == LINE then
            local first = redis.call('ZRANGE', prefix .. name, 0, 0)[1]
            if first then
                flat[#flat + 1] = name
                flat[#flat + 1] = redis.call('HGET', rows, first)
            end
        end
    end
    return flat
end

-- KEYS  checkpoint, names, rows, depths, the buckets of an hour's pulses, oldest first
-- ARGV  {prefix, recent}: how many of the last buckets rates are counted over
-- Reply {checkpoint, depths, who is first in each line, sums of all buckets, sums of the recent ones}
local function queues(keys, ask)
    return {
        position(keys[1]),
        redis.call('HGETALL', keys[4]),
        firsts(keys[2], keys[3], ask.prefix),
        summed(keys, 5, #keys),
        summed(keys, math.max(5, #keys - ask.recent + 1), #keys),
    }
end

-- KEYS  checkpoint, rows, the buckets of what was done
-- ARGV  {prefix, subjects, running = {set of each subject …}}
-- Reply {checkpoint, sums of what was done, {row, {what it runs, since …}} of each subject …}
local function working(keys, ask)
    local reply = { position(keys[1]), summed(keys, 3, #keys) }
    for i, subject in ipairs(ask.subjects) do
        reply[i + 2] = {
            redis.call('HGET', keys[2], subject),
            redis.call('ZRANGE', ask.prefix .. ask.running[i], 0, -1, 'WITHSCORES'),
        }
    end
    return reply
end

-- KEYS  checkpoint, lines in the order of their urgency, the buckets of recent pulses
-- ARGV  {job, lines, finished}: how many of the keys are lines; the counter of those that ended
-- Reply {checkpoint, how many wait before the job; -1 if it does not wait; how many ended}
local function rank(keys, ask)
    local before, rank_of, ended = 0, -1, 0
    for i = 2, ask.lines + 1 do
        local at = redis.call('ZRANK', keys[i], ask.job)
        if at then
            rank_of = before + at
            break
        end
        before = before + redis.call('ZCARD', keys[i])
    end
    for i = ask.lines + 2, #keys do
        ended = ended + tonumber(redis.call('HGET', keys[i], ask.finished) or 0)
    end
    return { position(keys[1]), rank_of, ended }
end

register('views_list', list, { 'allow-oom' })
register('views_hashes', hashes, { 'allow-oom' })
register('views_queues', queues, { 'allow-oom' })
register('views_working', working, { 'allow-oom' })
register('views_rank', rank, { 'allow-oom' })
