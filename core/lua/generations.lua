-- Which generation of views serves a release: see projections/generations.py for the hash that says it.

-- generation_begin: begin to build a generation, whose views were made.
--
-- KEYS  views
-- ARGV  {fingerprint, number}, number being one more than the last that was given out
-- Reply the number of the generation that is being built for the fingerprint, or false: the number was
--       given out meanwhile
local function begin_generation(keys, ask)
    local building = 'building:' .. ask.fingerprint
    local begun = redis.call('HGET', keys[1], building)
    if begun then
        return begun
    end
    if tonumber(redis.call('HGET', keys[1], 'last') or 0) ~= tonumber(ask.number) - 1 then
        return false
    end
    redis.call('HSET', keys[1], 'last', ask.number, 'made:' .. ask.number, ask.fingerprint,
        building, ask.number)
    return ask.number
end

-- generation_switch: let a generation that has been built serve its release.
--
-- KEYS  views
-- ARGV  {fingerprint, number, rate = how many entries a second were folded, if that was measured}
-- Reply {'ok', the number of the one that served until now, if there was one}; {'gone'} if the
--       generation is no longer being built: it was dropped, or another one is.
local function switch_generation(keys, ask)
    local serving, building = 'serving:' .. ask.fingerprint, 'building:' .. ask.fingerprint
    local before = redis.call('HGET', keys[1], serving)
    if before == ask.number then
        return { 'ok' } -- Another process, which built the same one, was first.
    end
    if redis.call('HGET', keys[1], building) ~= ask.number then
        return { 'gone' }
    end
    redis.call('HSET', keys[1], serving, ask.number)
    redis.call('HDEL', keys[1], building)
    if ask.rate then
        redis.call('HSET', keys[1], 'rate', ask.rate)
    end
    return { 'ok', before or nil }
end

-- generation_unname: let a generation neither serve nor be built any more.
--
-- KEYS  views
-- ARGV  {fingerprint, number}
local function unname_generation(keys, ask)
    for _, role in ipairs({ 'serving:', 'building:' }) do
        local field = role .. ask.fingerprint
        if redis.call('HGET', keys[1], field) == ask.number then
            redis.call('HDEL', keys[1], field)
        end
    end
end

register('generation_begin', begin_generation)
register('generation_switch', switch_generation, { 'allow-oom' })
register('generation_unname', unname_generation, { 'allow-oom' })
