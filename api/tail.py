"""The end of the log, read once for everybody who listens to all events.

While somebody listens, one blocking read a shard waits for new entries: a message for each event would
cost every append something, and this costs only what it brings. What comes is kept as it will be sent, in
a ring of bounded length from which each listener takes at its own pace. A listener that begins in the
past, or has fallen behind the ring, reads pages of the log by itself until the ring has what comes next.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from api.happenings import Happening, Owners, happenings_of
from core.bells import Bell, Bells
from core.errors import StoreError
from core.head import position_of
from core.keys import ShardKeys
from core.store import EventStore
from core.tail import NO_ENTRY, Place, look
from core.trouble import Trouble
from projections.feed import read

log = logging.getLogger(__name__)

RING_MAX: Final = 10_000  # Events.
RING_BYTES_MAX: Final = 16 * 1024 * 1024
READ_MAX: Final = 200  # Entries, whose requests and results come along with them.
_BLOCK_MS: Final = 2_000
_GATHER_SECONDS: Final = 0.01  # After a read: what follows at once wakes all listeners together.
_AWAY_SECONDS: Final = 1.0

Position = tuple[int, int]


class Ring:
    """The newest happenings, each with a number that goes on when older ones are dropped."""

    def __init__(self, starts: Iterable[str]) -> None:
        self.first = 0  # The number of the oldest that is here.
        self.begins = [
            position_of(entry) for entry in starts
        ]  # What came after it, by shard, is here.
        self._kept: deque[Happening] = deque()
        self._bytes = 0

    @property
    def end(self) -> int:
        """The number of the one that comes next."""
        return self.first + len(self._kept)

    def add(self, happenings: Iterable[Happening]) -> None:
        for one in happenings:
            self._kept.append(one)
            self._bytes += len(one.message)
        while len(self._kept) > RING_MAX or self._bytes > RING_BYTES_MAX:
            dropped = self._kept.popleft()
            self._bytes -= len(dropped.message)
            self.begins[dropped.shard] = dropped.position
            self.first += 1

    def has_all_after(self, positions: Iterable[Position]) -> bool:
        """Say whether nothing is missing here of what came after these positions, one for each shard."""
        return all(at >= begin for at, begin in zip(positions, self.begins, strict=True))

    def some_from(self, number: int) -> list[Happening]:
        """Up to READ_MAX of them, from `number` on."""
        first = number - self.first
        last = min(first + READ_MAX, len(self._kept))
        return [self._kept[at] for at in range(first, last)]  # Quick at the end, where all are.


class Tail:
    """Reads the end of the log for as long as somebody listens."""

    def __init__(self, store: EventStore, bells: Bells) -> None:
        self.store = store
        self.owners = Owners(store)
        self.ring: Ring | None = None  # None: the store was not reached yet.
        self.ends: list[
            Place
        ] = []  # The last entry of each shard that is in the ring, or before it.
        self._bells = bells
        self._listening: set[Bell] = set()
        self._reading: asyncio.Task[None] | None = None
        self._away = Trouble(log, "the log cannot be read for those who listen to it")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Bell]:
        """A bell that rings when the ring has more."""
        with self._bells.here() as bell:
            self._listening.add(bell)
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
                self._reading.add_done_callback(_tell_failure)
            try:
                yield bell
            finally:
                self._listening.discard(bell)
                if not self._listening and self._reading is not None:
                    self._reading.cancel()
                    self._reading = self.ring = None

    async def page(self, shard: int, after: str) -> list[Happening]:
        """What the log itself has after an entry. Raises StoreError."""
        raws = await read(self.store, shard, after, READ_MAX)
        return await happenings_of(self.store.shards[shard], raws, self.owners)

    async def _read(self) -> None:
        shards = self.store.shards
        self.ends = list(await asyncio.gather(*(self._end_of(keys) for keys in shards)))
        self.ring = Ring(place.entry for place in self.ends)
        self._ring_bells()
        async with asyncio.TaskGroup() as group:
            for keys in shards:
                group.create_task(self._follow(self.ring, keys))

    async def _end_of(self, keys: ShardKeys) -> Place:
        while True:
            try:
                place = (await look(self.store.client, keys, NO_ENTRY)).last
                self._away.is_over()
                return place
            except StoreError as error:
                self._away.is_there(error)
            await asyncio.sleep(_AWAY_SECONDS)

    async def _follow(self, ring: Ring, keys: ShardKeys) -> None:
        while True:
            after = self.ends[keys.shard].entry
            try:
                raws = await read(self.store, keys.shard, after, READ_MAX, _BLOCK_MS)
                happenings = await happenings_of(keys, raws, self.owners)
                self._away.is_over()
            except StoreError as error:
                self._away.is_there(error)
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            if happenings:
                ring.add(happenings)
                last = happenings[-1]
                number = last.sequence or self.ends[keys.shard].sequence + len(happenings)
                self.ends[keys.shard] = Place(number, last.entry)
                self._ring_bells()
                await asyncio.sleep(_GATHER_SECONDS)

    def _ring_bells(self) -> None:
        for bell in self._listening:
            bell.ring()


def _tell_failure(task: asyncio.Task[None]) -> None:
    """Say it at once when the reading, which should go on, has ended with an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("listeners to all events hear of no more", exc_info=error)
