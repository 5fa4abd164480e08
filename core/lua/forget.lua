-- forget_kept, forget_copy, forget_swap: taking out of Redis what a person wrote. What is left of an event the
-- caller says (`core/redaction.py`); here it is put in its place.
--
-- An entry of a stream cannot be changed, and one that is deleted stays in memory, and in every dump, for as long
-- as its neighbours do. So the log is copied, some of it at a time, while it is appended to, and the copy then
-- takes its place. Nothing here passes when Redis is full: a copy that is half made helps nobody.

-- What is copied at once in the end, while nothing else can run.
local REST = 1000

-- A flat list of fields, with another value for one of them.
local function with_data(flat, data)
    for i = 1, #flat, 2 do
        if flat[i] == 'd' then
            flat[i + 1] = data
        end
    end
    return flat
end

-- What jobs have beside the log: entries that were carried over from it, and chunks of output.
--
-- KEYS  of each job: carried, output
-- ARGV  {jobs = {{{entry, index of its data} …} …}}, data …
local function forget_kept(keys, ask, args)
    for i, entries in ipairs(ask.jobs) do
        local carried, output = keys[2 * i - 1], keys[2 * i]
        for _, entry in ipairs(entries) do
            local packed = redis.call('HGET', carried, entry[1])
            if packed then
                local left = with_data(cmsgpack.unpack(packed), args[entry[2]])
                redis.call('HSET', carried, entry[1], cmsgpack.pack(left))
            end
        end
        redis.call('UNLINK', output)
    end
    return 'ok'
end

local function copy_entries(copy, entries, data)
    for _, entry in ipairs(entries) do
        local flat = data[entry[1]] and with_data(entry[2], data[entry[1]]) or entry[2]
        redis.call('XADD', copy, entry[1], unpack(flat))
    end
end

local function last_of(stream)
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    return last and last[1] or '0-0'
end

-- KEYS  log, copy
-- ARGV  {after, until_, data = {{entry, index of its data} …}, keep_ms}, data …
-- Reply 'ok'; 'moved': the copy does not end where the caller left it
local function forget_copy(keys, ask, args)
    if last_of(keys[2]) ~= ask.after then
        return 'moved'
    end
    local data = {}
    for _, entry in ipairs(ask.data) do
        data[entry[1]] = args[entry[2]]
    end
    copy_entries(keys[2], redis.call('XRANGE', keys[1], '(' .. ask.after, ask.until_), data)
    redis.call('PEXPIRE', keys[2], ask.keep_ms) -- A copy whose maker was killed goes by itself.
    return 'ok'
end

-- The copy takes the log's place, with all that was appended meanwhile.
--
-- KEYS  log, copy, the place for what was the log
-- ARGV  {after}
-- Reply 'ok'; 'behind': there is too much that the copy lacks; 'moved': as above, or the log has lost some since
local function forget_swap(keys, ask)
    local log, copy, old = keys[1], keys[2], keys[3]
    if last_of(copy) ~= ask.after then
        return 'moved'
    end
    local rest = redis.call('XRANGE', log, '(' .. ask.after, '+', 'COUNT', REST)
    if #rest == REST then
        return 'behind'
    end
    copy_entries(copy, rest, {})
    if redis.call('XLEN', copy) ~= redis.call('XLEN', log) then
        return 'moved'
    end
    redis.call('RENAME', log, old)
    redis.call('RENAME', copy, log)
    redis.call('PERSIST', log)
    redis.call('UNLINK', old)
    return 'ok'
end

register('forget_kept', forget_kept, {})
register('forget_copy', forget_copy, {})
register('forget_swap', forget_swap, {})
