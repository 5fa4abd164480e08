-- tail: how far the log goes, and whether an entry that was its last is still there.
--
-- KEYS  log
-- ARGV  {entry}: '0-0' if none is known
-- Reply {sequence of the last entry (0: none), its id, id of the first, sequence of `entry` (0: gone)}

local function sequence_of(entry)
    return entry and tonumber(field_of(entry, 'q')) or 0
end

local function tail(keys, ask)
    local last = redis.call('XREVRANGE', keys[1], '+', '-', 'COUNT', 1)[1]
    local first = redis.call('XRANGE', keys[1], '-', '+', 'COUNT', 1)[1]
    return {
        sequence_of(last), last and last[1] or '0-0', first and first[1] or '0-0',
        sequence_of(entry_at(keys[1], ask.entry)),
    }
end

register('tail', tail, { 'no-writes' })
