"""Writing what is derived of one shard as the log has it, in steps that are each atomic, while jobs go on."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from core import functions
from core.effects import Timer
from core.errors import StoreError
from core.keys import LaneName
from core.redis import answering
from projections.replay.findings import Finding, Kind
from projections.replay.shard import Shard

_TRIES: Final = 100
OF_SUBJECTS: Final = (Kind.HEAD, Kind.ENTRY, Kind.TIMER)
OF_TOTALS: Final = (Kind.SEQUENCE, Kind.LANE, Kind.COUNT, Kind.PAUSED, Kind.SUBJECTS)
PENDING: Final = "pending"


async def mend_subject(shard: Shard, subject: str) -> bool:
    """Write head, lane entry and timers of a subject as the log has them; False if the log cannot tell.

    Raises StoreUnavailable, FromTheFuture; StoreError if it changes all the while.
    """
    for _ in range(_TRIES):
        if subject in shard.concerned or subject in shard.history.unreadable:
            return False
        match await _mend_once(shard, subject):
            case b"ok":
                return True
            case _:  # It has moved on, or too much has come since.
                await shard.fold()
                await asyncio.sleep(0)
    raise StoreError(f"{subject} changed {_TRIES} times while it was being mended")


async def _mend_once(shard: Shard, subject: str) -> Any:
    keys, should = shard.keys, shard.should(subject)
    suspect = shard.suspects.get(subject)
    entries = sorted(suspect.entries) if suspect is not None else []
    names = [keys.log, keys.sequence, keys.counts, keys.timers, keys.lanes, keys.hungry]
    names.append(keys.head(subject))
    ask: dict[str, Any] = {
        "subject": subject,
        "after": shard.history.entry,
        "set": [text for pair in should.fields.items() for text in pair],
        "timers": [(timer, should.timers.get(timer, False)) for timer in _timers(suspect)],
        "entries": [],
    }
    own = None if should.lane is None else str(should.lane)
    if should.lane is not None:
        names.append(keys.ready(should.lane))
        named = await _named_entry(shard, subject)
        ask["enter"] = {"name": own, "serves": should.lane.serves}
        ask["entries"] = [*named, *(entry for lane, entry in entries if lane == own)]
        ask["worker"] = should.worker
    else:
        names.append(keys.log)  # So that what follows has its place; nothing is done to it.
    strays = []
    for lane, entry in entries:
        if lane == own:
            strays.append((8, entry))
        else:
            names.append(keys.ready(LaneName.parse(lane)))
            strays.append((len(names), entry))
    ask["strays"] = strays
    if should.ended_ms is not None:
        ask["expires_at_ms"] = should.ended_ms + shard.store.bounds.retention_ms
    ask = {name: value for name, value in ask.items() if value is not None}
    return await functions.call(shard.store.client, "mend", names, ask)


def _timers(suspect: Any) -> list[str]:
    unknown = {member.partition(":")[2] for member in suspect.members} if suspect else set()
    return [*map(str, Timer), *sorted(unknown)]


async def _named_entry(shard: Shard, subject: str) -> list[str]:
    """The lane entry that the head names, if it does."""
    async with answering():
        entry = await shard.store.client.execute_command("HGET", shard.keys.head(subject), "entry")
    return [entry.decode()] if entry else []


async def mend_totals(shard: Shard, found: Sequence[Finding]) -> None:
    """Write what is kept for the whole shard as the log has it. Raises StoreUnavailable.

    Counts go up or down by what they lacked, so that it does not matter what is appended meanwhile.
    """
    keys = shard.keys
    names = [keys.log, keys.sequence, keys.counts, keys.lanes, keys.subjects, keys.paused]
    pending = []
    for one in found:
        if one.kind is Kind.ENTRY and one.subject == PENDING and one.stored is not None:
            names.append(keys.ready(LaneName.parse(one.name)))
            pending.append((len(names), one.stored))
    ask = {
        "prefix": keys.prefix,
        "counts": [
            (one.subject, int(one.expected or 0) - int(one.stored or 0))
            for one in _of(found, Kind.COUNT)
        ],
        "lanes": [one.subject for one in _of(found, Kind.LANE)],
        "subjects": [one.subject for one in _of(found, Kind.SUBJECTS)],
        "queues": [one.subject for one in _of(found, Kind.PAUSED)],
        "renumber": bool(list(_of(found, Kind.SEQUENCE))),
        "pending": pending,
    }
    await functions.call(shard.store.client, "mend_totals", names, ask)


def _of(found: Iterable[Finding], kind: Kind) -> Iterable[Finding]:
    return (one for one in found if one.kind is kind)
