"""Building a generation of views beside the one that serves, and letting it take over.

It is strict: what cannot be folded stops it, as an operator should know before it serves. Killed at any
moment, the next try goes on from its checkpoints.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from core.errors import StoreNotReady
from core.redis import answering
from core.store import EventStore
from projections.checkpoint import Held, Moved
from projections.generations import Generation, begin, drop, serving, switch
from projections.pruning import horizon
from projections.runner import Runner


class Progress(Struct, frozen=True):
    """How far a build has come."""

    entries: int
    of: int  # It grows while jobs go on.


async def build(store: EventStore, told: Callable[[Progress], None] = lambda _: None) -> Generation:
    """Fold the whole log into a new generation, let it serve, and drop the one that it replaces.

    Raises Unfoldable, Gap, LostTail, FromTheFuture, StoreUnavailable; what served before goes on then.
    """
    new = await begin(store)
    now_ms = await clock_ms(store)
    for view in new.views(store):
        await view.create(horizon(now_ms, store.bounds.retention_ms))
    for view in new.views(store):
        await _catch_up(store, new, Runner(store, view, strict=True), told)
    old = await _replaced(store)
    await switch(store, new)
    if old is not None and old.number != new.number:
        await drop(store, old)
    return new


async def begin_empty(store: EventStore) -> Generation | None:
    """Let a generation serve that has nothing in it yet, if the log has nothing either."""
    if any(await log_lengths(store)):
        return None
    return await build(store)


async def _catch_up(
    store: EventStore, new: Generation, runner: Runner, told: Callable[[Progress], None]
) -> None:
    while True:
        try:
            folded = await runner.advance()
        except Held as held:
            await asyncio.sleep(held.seconds)
            continue
        except Moved:  # Another process builds the same one: it goes on from where that is.
            continue
        at = [(await view.checkpoint()).sequence for view in new.views(store)]
        told(Progress(sum(at), max(sum(at), sum(await log_lengths(store)))))
        if not folded:
            return


async def _replaced(store: EventStore) -> Generation | None:
    try:
        return await serving(store)
    except StoreNotReady:
        return None


async def log_lengths(store: EventStore) -> list[int]:
    """The number of the last entry of each shard's log. Raises StoreUnavailable."""
    lengths = []
    for keys in store.shards:
        async with answering():
            lengths.append(int(await store.client.get(keys.sequence) or 0))
    return lengths


async def clock_ms(store: EventStore) -> int:
    """Redis's clock. Raises StoreUnavailable."""
    async with answering():
        seconds, microseconds = await store.client.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000
