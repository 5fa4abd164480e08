"""`respool replay verify`: everything that is derived from the log is what the log says."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from core.store import EventStore
from projections.building import log_lengths
from projections.checkpoint import Moved
from projections.fold import Horizon
from projections.gaps import accepted
from projections.replay.findings import Finding
from projections.replay.history import History
from projections.replay.shard import Shard
from projections.replay.totals import check_mirrors, check_totals, has_lost_its_end, totals
from projections.replay.views import check_view, served_view


class Progress(Struct, frozen=True):
    """How far one part of the work has come."""

    shard: int
    what: str
    done: int
    of: int


Tell = Callable[[Progress], None]


class Report(Struct):
    """What was compared, and what was found."""

    entries: int = 0
    subjects: int = 0
    findings: list[Finding] = []

    @property
    def differences(self) -> list[Finding]:
        """What is not as it should be, and was not accepted."""
        return [one for one in self.findings if not one.is_accepted]

    @property
    def accepted(self) -> list[Finding]:
        return [one for one in self.findings if one.is_accepted]


async def verify(store: EventStore, tell: Tell = lambda _: None) -> tuple[Report, list[Shard]]:
    """Compare the whole store with its log, while jobs go on; each shard, as far as it was read.

    Raises FromTheFuture, StoreUnavailable.
    """
    report = Report()
    shards = []
    lengths = await log_lengths(store)
    for keys, length in zip(store.shards, lengths, strict=True):
        with _without_collector():
            shard = await _verify_shard(store, keys.shard, length, tell)
        report.entries += shard.history.entries
        report.subjects += shard.subjects
        report.findings += shard.findings
        shards.append(shard)
    report.findings += await check_mirrors(store)
    return report, shards


@contextmanager
def _without_collector() -> Iterator[None]:
    """Have no garbage looked for: a fold makes millions of objects, and none of them is any yet."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def _verify_shard(store: EventStore, number: int, length: int, tell: Tell) -> Shard:
    def told(what: str, done: int, of: int) -> None:
        tell(Progress(number, what, done, max(of, length) if what == "events" else of))

    keys = store.shards[number]
    gaps = await accepted(store.client, keys)
    shard = Shard(store, number, History(keys, gaps, await _horizon(store, number)), told)
    shard.findings += await check_view(store, shard, told)
    await shard.fold()
    at = await totals(shard)
    await shard.fold(at.last)
    if has_lost_its_end(at):
        shard.history.note_lost_end(at.sequence, at.newest_id)
    await shard.check_subjects()
    shard.findings += await check_totals(shard)
    shard.findings += shard.history.of_the_log()
    return shard


async def _horizon(store: EventStore, shard: int) -> Horizon:
    """How far back counters are to be counted. It moves on while they are."""
    view = await served_view(store, shard)
    try:
        return Horizon() if view is None else (await view.checkpoint()).horizon
    except Moved:
        return Horizon()
