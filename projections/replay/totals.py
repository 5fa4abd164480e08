"""What is kept for a whole shard: counts, the sequence, paused queues, who has a head. Exact, while jobs go on."""

import asyncio
from typing import Any, Final

from msgspec import Struct

from core import functions
from core.head import head_of, position_of
from core.keys import count_fields
from core.redis import answering
from core.store import EventStore
from projections.replay.derived import counted, facts
from projections.replay.findings import Finding, Kind
from projections.replay.shard import Shard
from projections.rows import QueueRow

_MIRRORED_WITHIN_SECONDS: Final = 3.0


class Totals(Struct, frozen=True):
    """A shard's totals at one moment."""

    last: str
    number: int
    newest_id: str  # The last that the log ever gave, to whatever was in it.
    sequence: int
    counts: dict[str, str]
    paused: set[str]
    subjects: dict[str, bool]  # And whether they have a head.
    facts: dict[str, bool]
    heads: list[list[bytes]]


async def totals(shard: Shard) -> Totals:
    """Read them, with the heads of the jobs that the log does not tell all of. Raises StoreUnavailable."""
    keys = shard.keys
    known, jobs = facts(shard.history.rows), sorted(shard.concerned)
    ask = {"prefix": keys.prefix, "facts": known, "jobs": jobs}
    names = [keys.log, keys.sequence, keys.counts, keys.paused, keys.subjects]
    reply: list[Any] = await functions.call(shard.store.client, "seen_totals", names, ask)
    last, number, newest, sequence, counts, paused, subjects, have, exist, heads = reply
    return Totals(
        last.decode(),
        number,
        newest.decode(),
        sequence,
        {
            field.decode(): count.decode()
            for field, count in zip(counts[::2], counts[1::2], strict=True)
        },
        {queue.decode() for queue in paused},
        {name.decode(): has == 1 for name, has in zip(subjects, have, strict=True)},
        {name: has == 1 for name, has in zip(known, exist, strict=True)},
        heads,
    )


def has_lost_its_end(at: Totals) -> bool:
    """Say whether the log once had entries after its last one."""
    return at.sequence > at.number and position_of(at.newest_id) > position_of(at.last)


async def check_totals(shard: Shard) -> list[Finding]:
    """Hold the totals against the log, which is read up to where it stood then.

    Raises StoreUnavailable, FromTheFuture.
    """
    at = await totals(shard)
    await shard.fold(at.last)
    found = _counts(shard, at)
    if at.sequence != at.number and not has_lost_its_end(at):
        found.append(
            _total(shard.keys.shard, Kind.SEQUENCE, "of the log", str(at.sequence), str(at.number))
        )
    if shard.keys.shard == 0:
        found += _sets(shard, at)
    return found


def _counts(shard: Shard, at: Totals) -> list[Finding]:
    rows = shard.history.rows
    should = counted(row for subject, row in rows.items() if subject not in shard.concerned)
    for flat in at.heads:
        head = head_of(flat)
        if head is not None:
            should.update(count_fields(head.job))
    expected = {field: str(count) for field, count in should.items() if count}
    return [
        _total(shard.keys.shard, Kind.COUNT, field, at.counts.get(field), expected.get(field))
        for field in sorted(at.counts.keys() | expected.keys())
        if at.counts.get(field) != expected.get(field)
    ]


def _sets(shard: Shard, at: Totals) -> list[Finding]:
    queues = [row for row in shard.history.rows.values() if isinstance(row, QueueRow)]
    paused = {row.name for row in queues if row.queue.paused}
    found = _of_set(0, Kind.PAUSED, at.paused, paused)
    known = {subject for subject, has_head in at.facts.items() if has_head}
    # One whose head has expired is struck off by whoever next looks.
    rows = shard.history.rows  # One that was not asked for came meanwhile, if the log knows it.
    listed = {
        name
        for name, has_head in at.subjects.items()
        if (has_head if name in at.facts else name not in rows)
    }
    return found + _of_set(0, Kind.SUBJECTS, listed, known)


def _of_set(shard: int, kind: Kind, stored: set[str], expected: set[str]) -> list[Finding]:
    missing = [_total(shard, kind, name, None, "listed") for name in sorted(expected - stored)]
    return missing + [
        _total(shard, kind, name, "listed", None) for name in sorted(stored - expected)
    ]


async def check_mirrors(store: EventStore) -> list[Finding]:
    """The copies of which queues are paused, on the other shards. Raises StoreUnavailable.

    Whoever pauses a queue copies that right after, and every worker does once a second.
    """
    found: list[Finding] = []
    for attempt in range(2):
        found = []
        paused = await _members(store, store.shards[0].paused)
        for keys in store.shards[1:]:
            copied = await _members(store, keys.paused)
            found += _of_set(keys.shard, Kind.PAUSED, copied, paused)
        if not found:
            return []
        if attempt == 0:
            await asyncio.sleep(_MIRRORED_WITHIN_SECONDS)
    return found


async def _members(store: EventStore, key: str) -> set[str]:
    async with answering():
        members: set[bytes] = await store.client.execute_command("SMEMBERS", key)
    return {name.decode() for name in members}


def _total(shard: int, kind: Kind, name: str, stored: str | None, expected: str | None) -> Finding:
    return Finding(
        kind=kind,
        shard=shard,
        subject=name,
        name="",
        stored=stored,
        expected=expected,
    )
