"""Reading the log as what it is: a dense run of entries, each of which this release can read, or not."""

from collections.abc import Callable
from typing import Any, Final, final

import msgspec
from msgspec import Struct

from core.errors import FromTheFuture, StoreError
from core.keys import ShardKeys
from core.log import LogEntry, entry_of
from core.redis import answering
from core.store import EventStore
from core.tail import NO_ENTRY
from projections.gaps import Missing


class Gap(StoreError):
    """Entries are missing in the log."""


@final
class Poison(Struct, frozen=True):
    """An entry that cannot be read, whatever release reads it."""

    id: str
    sequence: int
    subject: str
    why: str


class Run(Struct, frozen=True):
    """Entries that follow each other, and why there are no more of them, if that was a reason to stop."""

    entries: list[LogEntry | Poison]
    stopped: FromTheFuture | None = None


UNREADABLE: Final = (KeyError, ValueError, msgspec.MsgspecError)


async def read(
    store: EventStore, shard: int, after: str, count: int, block_ms: int | None = None
) -> list[Any]:
    """Up to `count` raw entries after a position; with `block_ms`, waited for that long.

    Raises StoreUnavailable.
    """
    log = store.shards[shard].log
    async with answering():
        if block_ms is None:
            raw: list[Any] = await store.client.execute_command(
                "XRANGE", log, f"({after}", "+", "COUNT", count
            )
            return raw
        streams = await store.client.execute_command(
            "XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", log, after
        )
        return streams[0][1] if streams else []


def parse(
    keys: ShardKeys,
    raws: list[Any],
    sequence: int,
    after: str,
    accepts: Callable[[Missing], bool] = lambda _: False,
) -> Run:
    """Entries as they were written, which have to follow number `sequence`, of entry `after`.

    Raises Gap if some are missing, unless `accepts` says that this is known.
    """
    entries: list[LogEntry | Poison] = []
    for raw in raws:
        sequence += 1
        try:
            entry: LogEntry | Poison = entry_of(raw)
        except FromTheFuture as error:
            return Run(entries, error)
        except UNREADABLE as error:
            entry = _poison(raw, error)
        if entry.sequence != sequence:
            missing = Missing(sequence, entry.sequence - 1, after, entry.id)
            if not accepts(missing):
                raise Gap(_missing(keys, sequence, after, entry))
            sequence = entry.sequence
        after = entry.id
        entries.append(entry)
    return Run(entries)


def _missing(keys: ShardKeys, sequence: int, after: str, found: LogEntry | Poison) -> str:
    where = f"the log of shard {keys.shard}"
    if found.sequence > sequence:
        lost = (
            f"{sequence}"
            if found.sequence == sequence + 1
            else f"{sequence} to {found.sequence - 1}"
        )
        begin = "its start" if after == NO_ENTRY else f"entry {after}"
        return (
            f"{where} lacks number {lost}: {begin} is followed by {found.id}, number {found.sequence}; "
            "`respool replay repair --accept-gaps` goes on without"
        )
    return (
        f"{where} has entry {found.id} as number {found.sequence} where {sequence} should come: "
        "it lost its end, and has others under the same numbers"
    )


def _poison(raw: Any, error: Exception) -> Poison:
    entry_id, fields = raw
    values = {name: fields.get(name, b"").decode(errors="replace") for name in (b"j", b"q")}
    number = values[b"q"]
    return Poison(
        id=entry_id.decode(),
        sequence=int(number) if number.isdigit() else -1,
        subject=values[b"j"],
        why=f"it cannot be read: {error}",
    )
