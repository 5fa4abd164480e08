"""Looking at jobs for all who follow them: what they ask for at the same time is read once, together."""

import asyncio
from functools import partial
from typing import Any, NamedTuple

from core import functions
from core.batching import Batcher
from core.head import Head
from core.keys import ShardKeys
from core.log import LogEntry
from core.output import CHUNKS_PER_LOOK, Chunk, chunks_after, chunks_of
from core.store import EventStore

Story = tuple[Head | None, list[LogEntry]]


class _Ask(NamedTuple):
    """A reader's question: what a job has after a chunk."""

    job_id: str
    after: str


class _Seen(NamedTuple):
    version: int  # The job's, before its chunks were read; 0: there is none.
    chunks: list[Chunk]


class Watcher:
    """Looks at many jobs that run, together: whoever asks while a look is on its way shares the next.

    Readers of one job who have come equally far share one answer.
    """

    def __init__(self, store: EventStore, patience_seconds: float) -> None:
        self._store = store
        self._asked: dict[_Ask, asyncio.Future[_Seen]] = {}  # Not yet on their way.
        self._stories: dict[str, asyncio.Task[Story]] = {}  # Nor these.
        self._batchers = tuple(
            Batcher(partial(self._call, keys), lambda _: 0, patience_seconds)
            for keys in store.shards
        )

    async def look(
        self, job_id: str, after: str, known: Head | None
    ) -> tuple[Head | None, list[Chunk]]:
        """A job, and up to CHUNKS_PER_LOOK chunks after the one with id `after`.

        The chunks are no older than the job: one that has ended has no more of them than come with it.
        `known` is the job as it was at the last look, and comes back if it is still so. Raises
        StoreUnavailable, FromTheFuture.
        """
        if known is not None:
            seen = await self._see(_Ask(job_id, after))
            if seen.version == known.job.version:
                return known, seen.chunks
        head = await self._store.load(job_id)
        if head is None:
            return None, []
        return head, (await self._see(_Ask(job_id, after))).chunks

    async def _see(self, ask: _Ask) -> _Seen:
        answer = self._asked.get(ask)
        if answer is None:
            answer = self._batchers[self._store.keys_of(ask.job_id).shard].send(ask)
            answer.add_done_callback(_retrieve)
            self._asked[ask] = answer
        return await asyncio.shield(answer)  # It is not one reader's alone.

    async def story(self, job_id: str) -> Story:
        """A job, and all of its events: one that has ended has no more. Raises StoreError."""
        story = self._stories.get(job_id)
        if story is None:
            story = self._stories[job_id] = asyncio.create_task(self._read_story(job_id))
            story.add_done_callback(_retrieve)
        return await asyncio.shield(story)

    async def _read_story(self, job_id: str) -> Story:
        await asyncio.sleep(0)  # All who were woken together ask in this turn of the loop.
        del self._stories[job_id]
        head = await self._store.load(job_id)  # First: what it says has ended is read to the end.
        return head, await self._store.history(job_id)

    async def _call(self, keys: ShardKeys, asks: list[_Ask]) -> list[_Seen]:
        for ask in asks:
            self._asked.pop(ask, None)
        commands: list[tuple[Any, ...]] = []
        for job_id, after in asks:
            commands.append(("HGET", keys.head(job_id), "version"))
            commands.append(chunks_after(keys, job_id, after, CHUNKS_PER_LOOK))
        replies = iter(await functions.pipeline(self._store.client, commands))
        pairs = zip(replies, replies, strict=True)
        return [_Seen(int(version or 0), chunks_of(entries)) for version, entries in pairs]


def _retrieve(answer: asyncio.Future[Any]) -> None:
    """Whoever asked may have left, and an error that nobody saw would be reported."""
    if not answer.cancelled():
        answer.exception()
