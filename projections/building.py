"""Building a generation of views beside the one that serves, and letting it take over.

It is strict, unless told otherwise: what cannot be folded stops it, as an operator should know before it
serves. Killed at any moment, the next try goes on from its checkpoints.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from core.errors import FromTheFuture, StoreFull, StoreUnavailable
from core.nodes import primaries
from core.redis import answering
from core.store import EventStore
from projections.checkpoint import Held, LostTail, Moved, View
from projections.generations import Generation, begin, being_built, drop, switch
from projections.pruning import horizon
from projections.runner import BATCH_ENTRIES, Runner

_LOOK_EVERY_SECONDS: Final = 1.0
_PASSES: Final = 2  # The second folds what came during the first.
_TRIES: Final = 3
_TELLING_ENTRIES: Final = (
    10 * BATCH_ENTRIES
)  # Fewer take too short a time to tell how many go in it.


class Progress(Struct, frozen=True):
    """How far a build has come."""

    entries: int
    of: int  # It grows while jobs go on.


Told = Callable[[Progress], None]


async def build(
    store: EventStore,
    told: Told = lambda _: None,
    of: str | None = None,
    *,
    strict: bool = True,
) -> Generation:
    """Fold the whole log into a new generation, let it serve, and drop the one that it replaces.

    `of` is the fingerprint of the release that it is for, by default this one. Unless it is strict, what
    cannot be folded is parked, as a projector does. Raises Unfoldable, Gap, LostTail, FromTheFuture,
    StoreFull, StoreUnavailable; what served before goes on then.
    """
    for _ in range(_TRIES):
        now_ms = await clock_ms(store)
        new = await begin(store, horizon(now_ms, store.bounds.retention_ms), of)
        try:
            rate = await _Build(store, new, told, strict=strict).run()
            replaced = await switch(store, new, rate)
        except LostTail:  # It was folded from a log that lost its end since.
            await drop(store, new)
        except Moved:  # Dropped while nobody built it, by a projector that took it for abandoned.
            continue
        else:
            if replaced is not None:
                await drop(store, replaced)
            return new
    raise StoreUnavailable("the views that are being built are dropped by others, again and again")


class _Build:
    """One try to bring a generation up to the log."""

    def __init__(self, store: EventStore, new: Generation, told: Told, *, strict: bool) -> None:
        self._store = store
        self._new = new
        self._told = told
        self._strict = strict
        self._at: dict[int, int] = {}  # By shard.
        self._folded = 0
        self._end = 0
        self._look_at = 0.0

    async def run(self) -> int | None:
        """Fold all that there is; how many entries a second, if there were enough to tell.

        Raises Moved once the generation is gone.
        """
        began, views = time.perf_counter(), self._new.views(self._store)
        self._at = {view.keys.shard: (await view.checkpoint()).sequence for view in views}
        for _ in range(_PASSES):
            for view in views:
                await self._catch_up(view)
        if self._folded < _TELLING_ENTRIES:
            return None
        return round(self._folded / (time.perf_counter() - began))

    async def _catch_up(self, view: View) -> None:
        shard = view.keys.shard
        runner = Runner(self._store, view, strict=self._strict)
        self._look_at = 0.0
        while True:
            try:
                await self._look(runner)
                folded = await runner.advance()
            except Held as held:
                await asyncio.sleep(held.seconds)
                continue
            except Moved:  # Another process builds the same one: go on from where that is.
                self._at[shard] = (await view.checkpoint()).sequence
                continue
            except FromTheFuture as error:
                at = await view.checkpoint()
                raise FromTheFuture(
                    f"what follows entry {at.entry} of the log of shard {shard}: {error}"
                ) from error
            self._at[shard] += folded
            self._folded += folded
            done = sum(self._at.values())
            self._told(Progress(done, max(done, self._end)))
            if folded < BATCH_ENTRIES:  # And not until there is none: they may come for ever.
                return

    async def _look(self, runner: Runner) -> None:
        """From time to time see how much there is to fold, and room for it; and that time goes on."""
        if time.monotonic() < self._look_at:
            return
        self._end = sum(await log_lengths(self._store))
        await _require_room(self._store)
        await runner.prune(await clock_ms(self._store))  # Or it would seem abandoned.
        self._look_at = time.monotonic() + _LOOK_EVERY_SECONDS


async def _require_room(store: EventStore) -> None:
    """Raises StoreFull where a build would keep new jobs out: rather no new views than no jobs."""
    async with answering():
        infos = [await node.info("memory") for node in await primaries(store.client)]
    percent = max(
        100 * int(memory["used_memory"]) // limit
        if (limit := int(memory.get("maxmemory", 0)))
        else 0
        for memory in infos
    )
    if percent >= store.bounds.watermark_percent:
        raise StoreFull(
            f"Redis uses {percent} % of its maxmemory; the views that are being built would take what new "
            "jobs need: raise maxmemory, and run it again, which goes on from here"
        )


async def left_to_fold(store: EventStore, of: str | None = None) -> int:
    """How many log entries a build would have to fold, now. Raises StoreUnavailable."""
    entries = sum(await log_lengths(store))
    begun = await being_built(store, of)
    if begun is None:
        return entries
    try:
        at = [(await view.checkpoint()).sequence for view in begun.views(store)]
    except Moved:
        return entries
    return max(0, entries - sum(at))


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
