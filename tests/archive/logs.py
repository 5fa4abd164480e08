"""Logs to archive, and what is left of them."""

from redis.asyncio import Redis

from core.archive import Archive
from core.commands import Cancel
from core.keys import ShardKeys
from core.log import LogEntry
from core.records import Bounds
from core.store import EventStore
from projections.archive import archiver
from projections.archive.archiver import Archiver
from projections.archive.reader import SegmentArchive
from projections.building import build, clock_ms
from projections.past.sequence import Past
from tests.given import a_job

SHORT = Bounds(retention_ms=1)
SEGMENTS = archiver.Bounds(entries=7)


def open_with(client: Redis, archive: Archive | None, bounds: Bounds = SHORT) -> EventStore:
    return EventStore(client, 1, bounds, archive=archive)


def archiver_of(store: EventStore, name: str = "one") -> Archiver:
    assert isinstance(store.archive, SegmentArchive)
    return Archiver(store, store.archive, name, SEGMENTS)


async def an_archived_log(store: EventStore, jobs: int = 10) -> list[str]:
    """Jobs that were cancelled, and one that still waits: all archived, and trimmed where that may be."""
    ids = await some_jobs(store, jobs)
    await build(store)
    await archiver_of(store).work(store.shards[0], close=True)
    return ids


async def some_jobs(store: EventStore, jobs: int = 10) -> list[str]:
    """Jobs that were cancelled, and before them one that still waits."""
    ids = [await a_job(store)]
    for _ in range(jobs):
        ids.append(await a_job(store))
        await store.execute(ids[-1], Cancel(by="somebody"))
    return ids


async def told(store: EventStore) -> list[LogEntry]:
    """Everything that the past tells."""
    past = Past(store, await clock_ms(store) + 1_000)
    entries = [entry async for page in past.pages() for entry in page]
    assert past.notes == []
    return entries


async def numbers_in_log(client: Redis, keys: ShardKeys) -> list[int]:
    return [
        int(fields[b"q"])
        for _, fields in await client.execute_command("XRANGE", keys.log, "-", "+")
    ]
