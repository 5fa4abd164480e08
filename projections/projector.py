"""The projector: keeps a release's views up with the log, for ever.

Any number of processes may run one. Each shard's part is moved on by whoever commits first; who was
refused stands by for as long as the view moves without it, and takes over when it does not.
"""

import asyncio
import logging
from typing import Final

from core.errors import StoreError
from core.store import EventStore
from core.trouble import Trouble
from projections.building import clock_ms
from projections.checkpoint import Held, Moved, View
from projections.feed import read
from projections.generations import drop_abandoned, serving
from projections.runner import BATCH_ENTRIES, Runner

log = logging.getLogger(__name__)

SHARED_LOOP_ENTRIES: Final = 200  # A batch where others wait for the same event loop.
_BLOCK_MS: Final = 1_000
_GATHER_SECONDS: Final = 0.02  # So that what comes one by one is not committed one by one.
_STANDBY_SECONDS: Final = 1.0
_AFTER_TROUBLE_SECONDS: Final = 1.0
_PRUNE_EVERY_SECONDS: Final = 60.0
ABANDONED_MS: Final = 3_600_000  # A projector of its release would have moved it meanwhile.


class Projector:
    """Moves all shards' views on."""

    def __init__(self, store: EventStore, batch_entries: int = BATCH_ENTRIES) -> None:
        self._store = store
        self._batch_entries = batch_entries

    async def run(self) -> None:
        """Keep the views up with the log, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for keys in self._store.shards:
                tasks.create_task(self._keep(keys.shard))
            tasks.create_task(self._drop_abandoned())

    async def _keep(self, shard: int) -> None:
        trouble = Trouble(log, f"the views of shard {shard} stand still")
        while True:
            view = None
            try:
                view = (await serving(self._store)).view(self._store, shard)
                await self._follow(view, trouble)
            except Moved:
                await self._stand_by(shard, view)
            except StoreError as error:
                trouble.is_there(error)
                if view is not None:
                    await _say(view, error)
                await asyncio.sleep(_AFTER_TROUBLE_SECONDS)

    async def _follow(self, view: View, trouble: Trouble) -> None:
        """Fold what comes, until there is trouble, somebody else does it, or another view serves."""
        loop = asyncio.get_running_loop()
        runner = Runner(self._store, view, batch_entries=self._batch_entries)
        prune_at, is_pruned = loop.time(), True
        while True:
            try:
                folded = await runner.advance(_BLOCK_MS if is_pruned else None)
                trouble.is_over()
                if loop.time() >= prune_at:
                    is_pruned = await runner.prune(await clock_ms(self._store))
                    if is_pruned:
                        prune_at = loop.time() + _PRUNE_EVERY_SECONDS
                    if (await serving(self._store)).number != view.keys.generation:
                        return  # It was replaced, by somebody who died before he dropped it.
            except Held as held:
                await asyncio.sleep(held.seconds)
                continue
            if folded < self._batch_entries:
                await asyncio.sleep(_GATHER_SECONDS)

    async def _stand_by(self, shard: int, view: View | None) -> None:
        """Return once nobody moves the view on though there is something to fold, or it is gone."""
        try:
            while view is not None:
                before = await view.checkpoint()
                await asyncio.sleep(_STANDBY_SECONDS)
                after = await view.checkpoint()
                if after.commits == before.commits and await read(
                    self._store, shard, after.entry, 1
                ):
                    return
        except (Moved, StoreError):
            await asyncio.sleep(_STANDBY_SECONDS)

    async def _drop_abandoned(self) -> None:
        """Drop what other releases served, once none of their projectors runs any more."""
        trouble = Trouble(log, "old views are not dropped")
        while True:
            try:
                now_ms = await clock_ms(self._store)
                for old in await drop_abandoned(self._store, now_ms, ABANDONED_MS):
                    log.info("abandoned views were dropped: %s", old.fingerprint)
                trouble.is_over()
            except StoreError as error:
                trouble.is_there(error)
            await asyncio.sleep(_PRUNE_EVERY_SECONDS)


async def _say(view: View, error: StoreError) -> None:
    try:
        await view.say_trouble(str(error))
    except StoreError:
        log.debug("nor can it be said in the view")
