-- due: the timers that have gone off. drop: clear one that the domain refused, unless it was set anew.

-- KEYS  timers
-- ARGV  {limit, skip, prefix}; skip: how many of the first ones to leave out
-- Reply {milliseconds until the next one (-1: none), {member, score, head} …}
local function due(keys, ask)
    local now = now_ms()
    local members = redis.call('ZRANGE', keys[1], '-inf', now, 'BYSCORE', 'LIMIT', ask.skip, ask.limit,
        'WITHSCORES')
    local reply = { -1 }
    for i = 1, #members, 2 do
        local job = string.match(members[i], '^[^:]+')
        reply[#reply + 1] = { members[i], members[i + 1], redis.call('HGETALL', ask.prefix .. 'job:' .. job) }
    end
    local next_due = redis.call('ZRANGE', keys[1], '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    if next_due[2] then
        reply[1] = math.max(0, math.ceil(tonumber(next_due[2]) - now))
    end
    return reply
end

-- KEYS  timers
-- ARGV  {member, score}
local function drop(keys, ask)
    if redis.call('ZSCORE', keys[1], ask.member) == ask.score then
        return redis.call('ZREM', keys[1], ask.member)
    end
    return 0
end

register('due', due, { 'no-writes' })
register('drop', drop, { 'allow-oom' })
