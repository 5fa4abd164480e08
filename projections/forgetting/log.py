"""The log without what some jobs had in it: copied page by page, and put in its place.

`core/lua/forget.lua` says why it takes a copy. Jobs go on meanwhile; the memory of a second log is needed.
"""

from collections.abc import Container
from contextlib import aclosing
from typing import Any, Final

from core import functions
from core.errors import StoreError, StoreFull
from core.head import position_of
from core.keys import ShardKeys
from core.nodes import node_of
from core.redaction import redacted
from core.redis import answering
from core.store import EventStore
from core.tail import NO_ENTRY
from projections.forgetting.told import Told
from projections.replay.reading import log_pages

_KEEP_COPY_MS: Final = 10 * 60_000
_TRIES_MAX: Final = 3
_MIB: Final = 1024 * 1024


def content_in(raws: list[Any], jobs: Container[str]) -> dict[bytes, bytes]:
    """What is left of each entry that has content of these jobs; nothing for all others."""
    left = {}
    for entry, fields in raws:
        if fields[b"j"].decode() in jobs:
            data = redacted(fields[b"t"], fields[b"d"])
            if data is not fields[b"d"]:
                left[entry] = data
    return left


async def require_room(store: EventStore, keys: ShardKeys, newest: str) -> None:
    """Raises StoreFull if Redis has no room for a second log; new jobs would be refused before it has.

    `newest` is the last entry that may have content: if the log begins after it, it needs no copy.
    """
    async with answering():
        begins = await store.client.execute_command("XRANGE", keys.log, "-", "+", "COUNT", 1)
        if not begins or position_of(newest) < position_of(begins[0][0].decode()):
            return
        info = await (await node_of(store.client, keys.log)).info("memory")
        log_bytes = int(await store.client.execute_command("MEMORY", "USAGE", keys.log) or 0)
    maximum = int(info["maxmemory"])
    allowed = maximum * store.bounds.watermark_percent // 100
    lacking = int(info["used_memory"]) + log_bytes - allowed
    if maximum and lacking > 0:
        raise StoreFull(
            f"the log of shard {keys.shard} is copied to take something out of it, which takes "
            f"{log_bytes / _MIB:,.0f} MiB for a while: {lacking / _MIB:,.0f} MiB more than there are below "
            f"{store.bounds.watermark_percent} % of maxmemory. Raise maxmemory until this is done "
            "(CONFIG SET maxmemory), or wait until more of the log is in the archive alone"
        )


async def rewrite_log(store: EventStore, keys: ShardKeys, jobs: Container[str], told: Told) -> int:
    """Take the content of jobs out of the log: out of how many entries. The log stays if there is none.

    No entry of these jobs that has content may be appended any more. Raises StoreError if it cannot be done,
    with the log as it was.
    """
    if not await _has_content(store, keys, jobs):
        return 0
    for _ in range(_TRIES_MAX):
        entries = await _rewritten(store, keys, jobs, told)
        if entries is not None:
            return entries
    raise StoreError(
        f"the log of shard {keys.shard} was changed {_TRIES_MAX} times while it was copied, other than "
        "by appends: is another `respool forget` at work, or somebody by hand? Run it again"
    )


async def _has_content(store: EventStore, keys: ShardKeys, jobs: Container[str]) -> bool:
    async with aclosing(log_pages(store, keys.shard, NO_ENTRY)) as pages:
        async for page in pages:
            if content_in(page, jobs):
                return True
    return False


async def _rewritten(
    store: EventStore, keys: ShardKeys, jobs: Container[str], told: Told
) -> int | None:
    """Copy and swap; None if something came in between, and the log is as it was."""
    async with answering():
        await store.client.execute_command("UNLINK", keys.copy)
    swap, after, changed, copied = [keys.log, keys.copy, keys.before_copy], NO_ENTRY, 0, 0
    while True:
        async with aclosing(log_pages(store, keys.shard, after)) as pages:
            async for page in pages:
                left = content_in(page, jobs)
                if page and not await _copy(store, keys, after, page, left):
                    return None
                after = page[-1][0].decode() if page else after
                changed, copied = changed + len(left), copied + len(page)
                told(f"shard {keys.shard}: log", copied)
        match await functions.call(store.client, "forget_swap", swap, {"after": after}):
            case b"ok":
                return changed
            case b"moved":
                return None


async def _copy(
    store: EventStore, keys: ShardKeys, after: str, page: list[Any], left: dict[bytes, bytes]
) -> bool:
    """Have Redis copy the entries of a page, with what is left of some; whether it could."""
    ask = {
        "after": after,
        "until_": page[-1][0].decode(),
        "data": [(entry.decode(), at) for at, entry in enumerate(left, 2)],  # ARGV[1] is the ask.
        "keep_ms": _KEEP_COPY_MS,
    }
    names = [keys.log, keys.copy]
    reply = await functions.call(store.client, "forget_copy", names, ask, list(left.values()))
    return bool(reply == b"ok")
