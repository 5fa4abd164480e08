-- record_key: one more event of an API key, and the bell for whoever has keys in memory.
--
-- KEYS  keys
-- ARGV  {bell}, then the event
-- Reply the id of its entry
--
-- A function because XADD is refused when Redis is full, and a key has to be revoked all the same.
local function record_key(keys, ask, args)
    local id = redis.call('XADD', keys[1], '*', 'e', args[2])
    redis.call('PUBLISH', ask.bell, id)
    return id
end

register('record_key', record_key, { 'allow-oom' })
