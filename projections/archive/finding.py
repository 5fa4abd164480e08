"""A job whose head has expired, as the archive has it.

A job's id has the time at which it was made, by a host's clock, so its first event is in a segment of about
then. Its head expired a while after its end, so nothing follows later than that. What lies between is read.
"""

import asyncio
from typing import Final

from core.events import Submitted
from core.head import Head, milliseconds_of
from core.ids import is_job_id, made_ms, shard_of
from core.job import fold
from core.log import LogEntry, entry_of, job_events
from core.states import Completed, Ended, has_ended
from core.store import EventStore, View
from core.watcher import Story
from projections.archive.filling import archived
from projections.archive.reader import SegmentArchive

_CLOCKS_DIFFER_MS: Final = 5 * 60_000
# Segments are megabytes, and are decoded where requests are served.
_AT_ONCE: Final = asyncio.Semaphore(2)


async def find(store: EventStore, job_id: str) -> View | None:
    """An ended job with its first and last event; None if there is no archive, or it has no such job.

    Raises ArchiveError, FromTheFuture, StoreUnavailable.
    """
    head, entries = await find_story(store, job_id)
    events = job_events(entries)
    if head is None or not isinstance(events[0], Submitted):
        return None
    return View(
        head, events[0], events[head.job.ended - 1] if isinstance(head.job, Ended) else None
    )


async def find_story(store: EventStore, job_id: str) -> Story:
    """An ended job and all of its events; nothing where `find` finds none. Raises as that does."""
    if not is_job_id(job_id) or shard_of(job_id) >= len(store.shards):
        return None, []
    async with _AT_ONCE:
        entries = await _history(store, job_id)
    job = fold(job_events(entries)) if entries else None
    if job is None or not has_ended(job):
        return None, []
    return Head(job, tuple(entry.id for entry in entries)), entries


async def _history(store: EventStore, job_id: str) -> list[LogEntry]:
    """A job's entries in the archive, up to where there can be no more."""
    archive, shard = store.archive, shard_of(job_id)
    if not isinstance(archive, SegmentArchive):
        return []
    entries: list[LogEntry] = []
    until_ms = made_ms(job_id) + _CLOCKS_DIFFER_MS
    wanted = job_id.encode()
    where = (await archived(store, store.shards[shard])).spans
    names = [
        (span, name)
        for span in where
        for name in await archive.names(span.incarnation, shard)
        if span is where[-1] or name.first <= span.until  # The rest happened to another store.
    ]
    for span, name in names:
        if milliseconds_of(name.last_entry) < made_ms(job_id) - _CLOCKS_DIFFER_MS:
            continue
        if milliseconds_of(name.first_entry) > until_ms:
            break
        segment = await archive.open(span.incarnation, shard, name)
        for page in segment.pages():
            for entry in (entry_of(raw) for raw in page if raw[1].get(b"j") == wanted):
                is_ours = span is where[-1] or entry.sequence <= span.until
                if is_ours and entry.version == len(entries) + 1:  # Segments may overlap.
                    entries.append(entry)
            await asyncio.sleep(0)
        job = fold(job_events(entries)) if entries else None
        if isinstance(job, Completed):
            break
        if job is not None and has_ended(job):
            until_ms = entries[-1].at_ms + store.bounds.retention_ms
        elif job is not None:
            until_ms = 2**63  # Open so far: however long that took.
    return entries
