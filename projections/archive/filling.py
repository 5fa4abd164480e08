"""The log as it was written: where it lacks entries that were archived, they come from the archive.

This is what everything goes through that reads a log from its beginning. What the log has is read from
Redis; a hole before it, or in it, is filled if the archive has those numbers. What nobody has stays a hole,
for the reader to judge.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from msgspec import Struct

from core.archive import ArchiveError
from core.head import position_of
from core.keys import META, ShardKeys
from core.redis import answering
from core.store import EventStore
from projections.archive.segment import number_of
from projections.archive.spans import ARCHIVED_BEFORE, Span, spans

EDITION: Final = "edition"  # How often segments were written anew, in a shard's hash `archived`.

PassedOver = Callable[[ArchiveError], None]


class Archived(Struct, frozen=True):
    """How far a log is in its archive."""

    spans: tuple[Span, ...]
    sequence: int = 0
    entry: str = "0-0"


async def archived(store: EventStore, keys: ShardKeys) -> Archived:
    """How far a log is in its archive. Raises StoreUnavailable."""
    async with answering():
        incarnation, before = await store.client.execute_command(
            "HMGET", META, "incarnation", ARCHIVED_BEFORE
        )
        sequence, entry, edition = await store.client.execute_command(
            "HMGET", keys.archived, "sequence", "entry", EDITION
        )
    if store.archive is not None:
        store.archive.is_in(keys.shard, int(edition or 0))
    name = incarnation.decode() if incarnation else ""
    number = int(sequence or 0)
    where = spans(before, name, keys.shard, number)
    return Archived(where) if sequence is None else Archived(where, number, entry.decode())


async def filled(
    store: EventStore,
    shard: int,
    pages: AsyncIterator[list[Any]],
    sequence: int,
    until: str = "+",
    passed_over: PassedOver | None = None,
) -> AsyncGenerator[list[Any], None]:
    """Pages of a log after number `sequence`, up to an entry, and between them what they lack.

    `passed_over` hears of what the archive cannot tell, and it goes on without; else that is raised.
    Raises ArchiveError, StoreUnavailable.
    """
    async for page in pages:
        async for some in fill(store, shard, page, sequence, passed_over):
            yield some
        if page:
            sequence = _number(page[-1]) or sequence + len(page)
    if until != "+" and (after := await _first_after(store, shard, until)) is not None:
        async for some in _from_archive(store, shard, sequence, after - 1, passed_over):
            before = [raw for raw in some if position_of(raw[0].decode()) <= _limit(until)]
            if before:
                yield before


async def fill(
    store: EventStore,
    shard: int,
    page: list[Any],
    sequence: int,
    passed_over: PassedOver | None = None,
) -> AsyncGenerator[list[Any], None]:
    """One page that was read after number `sequence`, with what it lacks. Raises as `filled` does."""
    if not page:
        return
    if _is_dense(page, sequence):
        yield page
        return
    run: list[Any] = []
    for raw in page:
        number = _number(raw)
        if number is not None and number > sequence + 1:
            if run:
                yield run
                run = []
            async for some in _from_archive(store, shard, sequence, number - 1, passed_over):
                yield some
        run.append(raw)
        sequence = sequence + 1 if number is None else number
    if run:
        yield run


def _is_dense(page: list[Any], sequence: int) -> bool:
    first, last = _number(page[0]), _number(page[-1])
    return first == sequence + 1 and last == sequence + len(page)


def _number(raw: Any) -> int | None:
    """An entry's number; None if it says none, which is for its reader to find out."""
    number = raw[1].get(b"q", b"")
    return int(number) if number.isdigit() else None


async def _from_archive(
    store: EventStore, shard: int, after: int, until: int, passed_over: PassedOver | None
) -> AsyncGenerator[list[Any], None]:
    if after >= until:
        return
    at = await archived(store, store.shards[shard])
    until = min(until, at.sequence)
    if after >= until:
        return  # It never was in the archive.
    while after < until:
        try:
            async with aclosing(_archive_of(store, shard, at.spans, after, until)) as pages:
                async for page in pages:
                    after = number_of(page[-1])
                    yield page
            return
        except ArchiveError as error:
            if passed_over is None:
                raise
            passed_over(error)
            after = error.last or until


async def _archive_of(
    store: EventStore, shard: int, where: Sequence[Span], after: int, until: int
) -> AsyncGenerator[list[Any], None]:
    if store.archive is None:
        raise ArchiveError(
            f"the log of shard {shard} lacks number {after + 1} to {until}, which were archived and then "
            "trimmed: set ARCHIVE_URL to where that archive is"
        )
    for span in where:
        upto = min(until, span.until)
        if after < upto:
            async with aclosing(
                store.archive.entries(span.incarnation, shard, after, upto)
            ) as pages:
                async for page in pages:
                    yield page
            after = upto


async def _first_after(store: EventStore, shard: int, entry: str) -> int | None:
    """The number of the first entry that the log has after a position; None if there is none."""
    log = store.shards[shard].log
    async with answering():
        after = entry if "-" in entry else f"{entry}-18446744073709551615"
        found = await store.client.execute_command("XRANGE", log, f"({after}", "+", "COUNT", 1)
    return _number(found[0]) if found else None


def _limit(until: str) -> tuple[int, int]:
    """A position up to which XRANGE reads: without a counter it is the whole of that millisecond."""
    return position_of(until) if "-" in until else (int(until), 2**64)
