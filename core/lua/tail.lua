-- tail: how far the log goes, and what is left of what was there up to an entry.
--
-- KEYS  log
-- ARGV  {entry}: one that was there; '0-0' if none is known
-- Reply {{sequence, id} of the last entry, of the first, and of the newest that is not after `entry`};
--       {0, '0-0'} where there is none
--
-- It writes nothing and is not marked so: a replica refuses it, and whoever only reads learns that it
-- reads from one.

local function place_of(entry)
    if not entry then
        return { 0, '0-0' }
    end
    return { tonumber(field_of(entry, 'q')), entry[1] }
end

local function tail(keys, ask)
    local last = redis.call('XREVRANGE', keys[1], '+', '-', 'COUNT', 1)[1]
    local first = redis.call('XRANGE', keys[1], '-', '+', 'COUNT', 1)[1]
    local left = last
    if not last or last[1] ~= ask.entry then
        left = redis.call('XREVRANGE', keys[1], ask.entry, '-', 'COUNT', 1)[1]
    end
    return { place_of(last), place_of(first), place_of(left) }
end

register('tail', tail, { 'allow-oom' })
