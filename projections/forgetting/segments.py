"""Segments of the archive without what some jobs had in them: each written anew under its own name."""

import asyncio
from collections.abc import Container

from msgspec import Struct, field

from core.archive import ArchiveError
from core.keys import ShardKeys
from core.redis import answering
from core.store import EventStore
from projections.archive.filling import EDITION, archived
from projections.archive.reader import SegmentArchive, folder_of
from projections.archive.segment import Name, Segment, Writer
from projections.forgetting.log import content_in
from projections.forgetting.told import Told


class Rewritten(Struct):
    """What became of a shard's segments."""

    entries: int = 0  # That content was taken out of.
    segments: int = 0
    left: list[str] = field(default_factory=list)  # What could not be read, in words.


async def rewrite_segments(
    store: EventStore, keys: ShardKeys, jobs: Container[str], told: Told
) -> Rewritten:
    """Take the content of jobs out of a shard's segments, those of its earlier incarnations among them.

    Killed in between, each segment is what it was, or without. Raises StoreUnavailable, and ArchiveError if the
    archive does not answer; a segment that is damaged is left, and said.
    """
    done, archive, seen = Rewritten(), store.archive, 0
    if not isinstance(archive, SegmentArchive):
        return done
    for span in (await archived(store, keys)).spans:
        for name in await archive.names(span.incarnation, keys.shard):
            try:
                segment = await archive.open(span.incarnation, keys.shard, name)
                entries = await _rewrite(archive, segment, name, jobs)
            except ArchiveError as error:
                done.left.append(str(error))
                continue
            done.entries += entries
            done.segments += entries > 0
            seen += segment.header.entries
            told(f"shard {keys.shard}: archive", seen)
    if done.segments:
        archive.forget()
        async with answering():  # Whoever has one of them in memory reads it anew.
            await store.client.execute_command("HINCRBY", keys.archived, EDITION, 1)
    return done


async def _rewrite(
    archive: SegmentArchive, segment: Segment, name: Name, jobs: Container[str]
) -> int:
    entries, body = await asyncio.to_thread(_without, segment, jobs)
    if body is not None:
        header = segment.header
        path = f"{folder_of(header.incarnation, header.shard)}/{name}"
        await asyncio.to_thread(archive.files.put, path, body)
    return entries


def _without(segment: Segment, jobs: Container[str]) -> tuple[int, bytes | None]:
    """How many entries have content of jobs, and the segment without it; None if none has. Pure."""
    if not any(content_in(page, jobs) for page in segment.pages()):
        return 0, None
    header, entries = segment.header, 0
    writer = Writer(header.incarnation, header.shard, header.after)
    for page in segment.pages():
        left = content_in(page, jobs)
        writer.add(
            [(entry, {**fields, b"d": left.get(entry, fields[b"d"])}) for entry, fields in page]
        )
        entries += len(left)
    _, body = writer.finish()
    return entries, body
