-- touch: what a round of `core/durability.py` begins with.
--
-- KEYS  synced, heads …
-- ARGV  {written = {{version, log id of that version or ''}, …}}, one for each head
-- Reply for each head 1 if it still has that version, else 0
--
-- It writes, as WAITAOF and WAIT wait for what their own connection wrote last, and return at once on
-- one that wrote nothing. It looks, because a server that failed over or lost its tail since the append
-- was answered would confirm what it does not have. It passes when Redis is full, like an append.
local function touch(keys, ask)
    redis.call('SET', keys[1], now_ms())
    local replies = {}
    for i, written in ipairs(ask.written) do
        local log_id = redis.call('HGET', keys[i + 1], tostring(written[1]))
        local is_there = log_id and (written[2] == '' or written[2] == log_id)
        replies[i] = is_there and 1 or 0
    end
    return replies
end

register('touch', touch, { 'allow-oom' })
