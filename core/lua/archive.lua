-- archive_lease, archive_release, archive_commit, archive_trim: what archives a log does in Redis.
--
-- The hash `archived` says how far the log is in the archive, and who is at it. Its fence grows with every new
-- holder, so that one who was frozen for longer than its lease changes nothing any more. All pass when Redis is
-- full: they are what makes room.

-- Who waits for the lease is next, whoever else asks: its holder lets go when it would renew it.
--
-- KEYS  archived
-- ARGV  {holder, lease_ms, waits}
-- Reply {'ok', fence, sequence, entry}: of the last entry that is in the archive; or {'held', by whom}
local function archive_lease(keys, ask)
    local now = now_ms()
    local at = redis.call('HMGET', keys[1], 'holder', 'until_ms', 'fence', 'sequence', 'entry', 'next', 'next_until_ms')
    local fence, is_mine = tonumber(at[3] or 0), at[1] == ask.holder
    local is_held = at[1] and tonumber(at[2]) > now
    local is_next = at[6] and at[6] ~= ask.holder and tonumber(at[7]) > now
    local ends = string.format('%.0f', now + ask.lease_ms)
    if is_next and is_mine then
        redis.call('HDEL', keys[1], 'holder', 'until_ms')
    end
    if is_next or is_held and not is_mine then
        if ask.waits and not is_next then
            redis.call('HSET', keys[1], 'next', ask.holder, 'next_until_ms', ends)
        end
        return { 'held', is_next and at[6] or at[1] }
    end
    if not is_mine then
        fence = fence + 1
    end
    if at[6] == ask.holder then
        redis.call('HDEL', keys[1], 'next', 'next_until_ms')
    end
    redis.call('HSET', keys[1], 'holder', ask.holder, 'until_ms', ends, 'fence', fence)
    return { 'ok', fence, tonumber(at[4] or 0), at[5] or '0-0' }
end

-- KEYS  archived
-- ARGV  {holder}
local function archive_release(keys, ask)
    if redis.call('HGET', keys[1], 'holder') == ask.holder then
        redis.call('HDEL', keys[1], 'holder', 'until_ms')
    end
    if redis.call('HGET', keys[1], 'next') == ask.holder then
        redis.call('HDEL', keys[1], 'next', 'next_until_ms')
    end
    return 'ok'
end

-- KEYS  archived, log
-- ARGV  {fence, after = sequence, sequence, entry}
-- Reply 'ok': the archive has the log up to that entry from now on; 'lost': the log does not have it; 'moved':
--       somebody else is at it
local function archive_commit(keys, ask)
    local at = redis.call('HMGET', keys[1], 'fence', 'sequence')
    if tonumber(at[1] or 0) ~= ask.fence or tonumber(at[2] or 0) ~= ask.after then
        return 'moved'
    end
    local entry = entry_at(keys[2], ask.entry)
    if not entry or tonumber(field_of(entry, 'q')) ~= ask.sequence then
        return 'lost'
    end
    redis.call('HSET', keys[1], 'sequence', ask.sequence, 'entry', ask.entry)
    return 'ok'
end

-- Keep an entry for as long as its job's head is there.
local function carry(head, entry)
    local left_ms = redis.call('PTTL', head)
    if left_ms == -2 then
        return
    end
    local carried = carried_of(head)
    redis.call('HSET', carried, entry[1], cmsgpack.pack(entry[2]))
    if left_ms >= 0 then
        redis.call('PEXPIRE', carried, left_ms)
    end
end

-- Trim the log before an entry, some of it at a time. What the archive has last stays in the log too: so the log
-- is never empty, and says where it goes on.
--
-- KEYS  log, archived
-- ARGV  {prefix, before, count}
-- Reply {'ok', how many entries were trimmed}; or {'refused', the last entry that is archived}: it would be lost
local function archive_trim(keys, ask)
    local archived = redis.call('HGET', keys[2], 'entry') or '0-0'
    if is_before(archived, ask.before) then
        return { 'refused', archived }
    end
    local entries = redis.call('XRANGE', keys[1], '-', '(' .. ask.before, 'COUNT', ask.count)
    if #entries == 0 then
        return { 'ok', 0 }
    end
    local last = entries[#entries][1]
    local kept = redis.call('XRANGE', keys[1], '(' .. last, '+', 'COUNT', 1)[1]
    if not kept then
        return { 'refused', '0-0' } -- The log has lost its end, with what was archived of it.
    end
    for _, entry in ipairs(entries) do
        local subject = field_of(entry, 'j')
        if subject and not string.find(subject, ':', 1, true) then
            carry(ask.prefix .. 'job:' .. subject, entry)
        end
    end
    redis.call('XTRIM', keys[1], 'MINID', kept[1])
    return { 'ok', #entries }
end

register('archive_lease', archive_lease, { 'allow-oom' })
register('archive_release', archive_release, { 'allow-oom' })
register('archive_commit', archive_commit, { 'allow-oom' })
register('archive_trim', archive_trim, { 'allow-oom' })
