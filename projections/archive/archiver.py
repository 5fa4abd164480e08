"""The archiver: writes what is over of the log to segments, and trims the log up to there.

Of any number of processes one works on a shard, which has a lease on it; what it says to Redis carries the
lease's fence, so one that was frozen in between changes nothing. An entry is first in the log alone, then in
both, and then in the archive alone: it is trimmed only once Redis was told that a segment with it is on disk.
Killed at any moment, the next one takes over what was written, or writes it again.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from core import functions
from core.archive import ArchiveError
from core.errors import StoreError
from core.head import milliseconds_of, position_of
from core.keys import META, ShardKeys
from core.redis import answering
from core.store import EventStore
from core.synced import Synced
from core.tail import NO_ENTRY
from core.trouble import Trouble
from projections.archive.reader import SegmentArchive, folder_of
from projections.archive.segment import Name, Place, Writer, number_of
from projections.building import clock_ms
from projections.checkpoint import Moved
from projections.generations import all_of

log = logging.getLogger(__name__)

LEASE_MS: Final = 60_000
_ROUND_SECONDS: Final = 5.0
_READ_ENTRIES: Final = 200
_TRIMMED_AT_ONCE: Final = 200
# Jobs that ended so long ago have no head any more, once the log is trimmed of them: nothing of those has to
# be kept beside it.
SPARE_MS: Final = 15 * 60_000


class Bounds(Struct, frozen=True, kw_only=True):
    """When a segment is closed."""

    entries: int = 50_000
    bytes: int = 32 * 1024 * 1024  # Uncompressed.
    age_ms: int = 10 * 60_000  # Of its first entry.


class Forked(ArchiveError):
    """The archive has what the log never had, or has no more."""


class _Lease(Struct, frozen=True):
    """The right to archive a shard, and how far that has come."""

    incarnation: str
    fence: int
    at: Place


_USUAL: Final = Bounds()


class Archiver:
    """Archives and trims the logs of a store."""

    def __init__(
        self, store: EventStore, archive: SegmentArchive, holder: str, bounds: Bounds = _USUAL
    ) -> None:
        """`holder` is this process's name, which no other has."""
        self._store = store
        self._archive = archive
        self._holder = holder
        self._bounds = bounds
        self._known: dict[int, _Lease] = {}  # By shard: no segment goes further than that.
        self._synced = Synced(store.client, [keys.log for keys in store.shards])

    async def run(self) -> None:
        """Archive for ever."""
        troubles = [
            Trouble(log, f"the log of shard {keys.shard} is not archived")
            for keys in self._store.shards
        ]
        while True:
            for keys, trouble in zip(self._store.shards, troubles, strict=True):
                try:
                    await self.work(keys)
                    trouble.is_over()
                except StoreError as error:
                    trouble.is_there(error)
            await asyncio.sleep(_ROUND_SECONDS)

    async def work(self, keys: ShardKeys, *, close: bool = False) -> None:
        """Archive what is to be archived of a shard by now, and trim what is; nothing if another does.

        With `close`, everything that is on disk, however little that is. Raises Forked, ArchiveError,
        StoreNotReady, StoreUnavailable.
        """
        until = (await self._synced.ends())[keys.shard]
        while (lease := await self._lease(keys)) is not None:
            if lease != self._known.get(keys.shard):
                await self._require_the_same_log(keys, lease)
                lease = self._known[keys.shard] = await self._adopt(keys, lease)
            if not await self._archive_next(keys, lease, until, close=close):
                await self._trim(keys, lease)
                return

    async def _lease(self, keys: ShardKeys) -> _Lease | None:
        async with answering():
            incarnation = await self._store.client.execute_command("HGET", META, "incarnation")
        ask = {"holder": self._holder, "lease_ms": LEASE_MS}
        reply = await functions.call(self._store.client, "archive_lease", [keys.archived], ask)
        match reply:
            case [b"ok", fence, sequence, entry] if incarnation is not None:
                return _Lease(incarnation.decode(), fence, Place(sequence, entry.decode()))
            case _:
                return None

    async def _adopt(self, keys: ShardKeys, lease: _Lease) -> _Lease:
        """Take over segments that Redis was not told of, by one that was killed before it could.

        Raises Forked if the log does not have what they have.
        """
        while True:
            names = await self._archive.names(lease.incarnation, keys.shard)
            ahead = [name for name in names if name.last > lease.at.sequence]
            if not ahead:
                return lease
            name = ahead[0]
            segment = await self._archive.open(lease.incarnation, keys.shard, name)
            if segment.header.after.sequence > lease.at.sequence:
                raise Forked(self._forked(keys, lease, name))
            next_lease = await self._commit(keys, lease, segment.header.last)
            if next_lease is None:
                raise Forked(self._forked(keys, lease, name))
            lease = next_lease

    async def _require_the_same_log(self, keys: ShardKeys, lease: _Lease) -> None:
        """Raises Forked if the log is not the one that the archive ends with."""
        if not lease.at.sequence:
            return
        found = await self._read(keys, lease.at.entry, "+", 1, after=False)
        number = number_of(found[0]) if found else 0
        is_there = found and found[0][0].decode() == lease.at.entry
        if number != lease.at.sequence if is_there else number <= lease.at.sequence:
            name = Name(0, lease.at.sequence, NO_ENTRY, lease.at.entry)
            raise Forked(self._forked(keys, lease, name))

    def _forked(self, keys: ShardKeys, lease: _Lease, name: Name) -> str:
        where = self._archive.files.where(folder_of(lease.incarnation, keys.shard))
        return (
            f"{where} has the log up to number {name.last} (entry {name.last_entry}), which the log does not "
            "have: the store lost its end after that was archived, or was restored from a backup. Move the "
            "files that go beyond the log's end elsewhere, and delete the store's own note of them "
            f"({keys.archived}); what is only in them happened, and the store does not know it"
        )

    async def _archive_next(
        self, keys: ShardKeys, lease: _Lease, until: str, *, close: bool
    ) -> bool:
        """Write one segment, if it is time to; whether there may be another one to write."""
        if position_of(until) <= position_of(lease.at.entry):
            return False
        first = await self._read(keys, lease.at.entry, until, 1)
        if not first or not (close or await self._is_time(keys, lease, first[0], until)):
            return False
        writer = await self._filled(keys, lease, until)
        name, body = await asyncio.to_thread(writer.finish)
        del self._known[
            keys.shard
        ]  # Until it is committed there is a segment that Redis does not know.
        path = f"{folder_of(lease.incarnation, keys.shard)}/{name}"
        await asyncio.to_thread(self._archive.files.put, path, body)
        committed = await self._commit(keys, lease, Place(name.last, name.last_entry))
        if committed is None:
            return False
        self._known[keys.shard] = committed
        return True

    async def _is_time(self, keys: ShardKeys, lease: _Lease, first: Any, until: str) -> bool:
        now_ms = await clock_ms(self._store)
        if now_ms - milliseconds_of(first[0].decode()) >= self._bounds.age_ms:
            return True
        last = await self._read(keys, until, "+", 1, after=False)
        return bool(last) and number_of(last[0]) - lease.at.sequence >= self._bounds.entries

    async def _filled(self, keys: ShardKeys, lease: _Lease, until: str) -> Writer:
        writer = Writer(lease.incarnation, keys.shard, lease.at)
        entry = lease.at.entry
        while writer.entries < self._bounds.entries and writer.bytes < self._bounds.bytes:
            count = min(_READ_ENTRIES, self._bounds.entries - writer.entries)
            page = await self._read(keys, entry, until, count)
            await asyncio.to_thread(writer.add, page)
            if len(page) < count:
                break
            entry = page[-1][0].decode()
        return writer

    async def _read(
        self, keys: ShardKeys, start: str, until: str, count: int, *, after: bool = True
    ) -> Sequence[Any]:
        async with answering():
            page: list[Any] = await self._store.client.execute_command(
                "XRANGE", keys.log, f"({start}" if after else start, until, "COUNT", count
            )
        return page

    async def _commit(self, keys: ShardKeys, lease: _Lease, to: Place) -> _Lease | None:
        """Tell Redis how far the archive has the log; None if the log does not have that, or we are late."""
        ask = {
            "fence": lease.fence,
            "after": lease.at.sequence,
            "sequence": to.sequence,
            "entry": to.entry,
        }
        names = [keys.archived, keys.log]
        reply = await functions.call(self._store.client, "archive_commit", names, ask)
        return _Lease(lease.incarnation, lease.fence, to) if reply == b"ok" else None

    async def _trim(self, keys: ShardKeys, lease: _Lease) -> None:
        """Trim what is archived, is in all views, and was kept for as long as it has to be."""
        before = min(
            [lease.at.entry, await self._old(), *await self._checkpoints(keys)], key=position_of
        )
        if before == NO_ENTRY:
            return
        ask = {"prefix": keys.prefix, "before": before, "count": _TRIMMED_AT_ONCE}
        names = [keys.log, keys.archived]
        while True:
            match await functions.call(self._store.client, "archive_trim", names, ask):
                case [b"ok", int(trimmed)] if trimmed == _TRIMMED_AT_ONCE:
                    await asyncio.sleep(0)
                case _:
                    return

    async def _old(self) -> str:
        kept_ms = self._store.bounds.retention_ms + SPARE_MS
        return f"{max(0, await clock_ms(self._store) - kept_ms)}-0"

    async def _checkpoints(self, keys: ShardKeys) -> list[str]:
        """How far each generation of views is, those of other releases among them."""
        entries = []
        for generation in await all_of(self._store):
            try:
                view = generation.view(self._store, keys.shard)
                entries.append((await view.checkpoint()).entry)
            except Moved:
                continue  # It is being dropped.
        return entries
