"""Archives and logs of all shards as one sequence, oldest first: what every look into the past reads.

It is tolerant, as an incident has to be explained whatever became of its log: what cannot be read is
noted, and passed over.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Final

from core.errors import FromTheFuture
from core.head import position_of
from core.log import LogEntry, entry_of
from core.store import EventStore
from projections.archive.filling import filled
from projections.feed import UNREADABLE
from projections.replay.reading import log_pages

_NOTES_MAX: Final = 20
_NO_MORE: Final = (2**63, 0)  # A position after all others.


class Past:
    """The entries of a store up to a moment. It keeps a page of each shard in memory, and no more."""

    def __init__(self, store: EventStore, until_ms: int) -> None:
        self._store = store
        self._until = str(until_ms)  # Without a counter: the whole of that millisecond.
        self._passed_over = 0
        self._notes: list[str] = []

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of what was read."""
        more = self._passed_over - len(self._notes)
        return [*self._notes, f"and {more} more"] if more > 0 else list(self._notes)

    async def pages(self) -> AsyncGenerator[list[LogEntry], None]:
        """All entries, some at a time. Raises StoreUnavailable."""
        async with AsyncExitStack() as stack:
            shards = [
                await stack.enter_async_context(aclosing(self._of_shard(keys.shard)))
                for keys in self._store.shards
            ]
            if len(shards) == 1:  # As it comes.
                async for page in shards[0]:
                    yield page
                return
            async for page in _merged(shards):
                yield page

    async def _of_shard(self, shard: int) -> AsyncGenerator[list[LogEntry], None]:
        sequence = 0
        pages = log_pages(self._store, shard, "0-0", self._until)
        async for raws in filled(
            self._store, shard, pages, 0, self._until, lambda error: self._note(str(error))
        ):
            page = []
            for raw in raws:
                try:
                    entry = entry_of(raw)
                except (FromTheFuture, *UNREADABLE) as error:
                    self._note(f"shard {shard}: entry {raw[0].decode()} cannot be read: {error}")
                    sequence += 1
                    continue
                if entry.sequence != sequence + 1:
                    self._note(_missing(shard, sequence, entry))
                sequence = entry.sequence
                page.append(entry)
            yield page

    def _note(self, text: str) -> None:
        self._passed_over += 1
        if len(self._notes) < _NOTES_MAX:
            self._notes.append(text)


def _missing(shard: int, sequence: int, found: LogEntry) -> str:
    if not sequence:
        return f"shard {shard}: the log begins with its entry number {found.sequence}"
    return f"shard {shard}: before entry {found.id} some are missing, from number {sequence + 1} on"


async def _merged(
    shards: list[AsyncGenerator[list[LogEntry], None]],
) -> AsyncIterator[list[LogEntry]]:
    """Pages of all shards as pages of one sequence: each goes up to where the shortest of them ends."""
    pages = [await _next(shard) for shard in shards]
    while any(page is not None for page in pages):
        ends = [position_of(page[-1].id) if page else _NO_MORE for page in pages]
        until = min(ends)
        ready: list[LogEntry] = []
        for at, page in enumerate(pages):
            if page is None:
                continue
            taken = [entry for entry in page if position_of(entry.id) <= until]
            ready += taken
            left = page[len(taken) :]
            pages[at] = left or await _next(shards[at])
        ready.sort(key=_position)
        yield ready


def _position(entry: LogEntry) -> tuple[int, int]:
    return position_of(entry.id)


async def _next(shard: AsyncGenerator[list[LogEntry], None]) -> list[LogEntry] | None:
    async for page in shard:
        return page
    return None
