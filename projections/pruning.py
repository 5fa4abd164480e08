"""Forgetting what is old: rows of what ended long ago, and buckets of counters that are no longer kept.

No event tells that a head expired, so the horizon is moved by the clock, and is part of the checkpoint:
a view is the fold of its log, restricted to its horizon, whenever that was last moved.
"""

from typing import Any, Final

from msgspec import structs

from core.redis import answering
from core.store import EventStore
from projections.checkpoint import Checkpoint, View
from projections.fold import Changes, Horizon, forget
from projections.jobs import ENDED
from projections.registry import PROJECTIONS

EVERY_MS: Final = 60_000
_SPARE_MS: Final = 60_000  # Heads are gone for that long before their rows are.
_AT_ONCE: Final = 1_000


def horizon(now_ms: int, retention_ms: int) -> Horizon:
    """How far back views reach at a moment."""
    return Horizon(rows_ms=now_ms - retention_ms - _SPARE_MS, counts_ms=now_ms)


async def prune(store: EventStore, view: View, at: Checkpoint, now_ms: int) -> Checkpoint:
    """Forget some of what is old by now, if it is time to; the checkpoint as it is then.

    Raises as `View.commit` does.
    """
    wanted = horizon(now_ms, store.bounds.retention_ms)
    if wanted.counts_ms - at.horizon.counts_ms < EVERY_MS:
        return at
    rows_ms, subjects = await _old(store, view, wanted.rows_ms)
    is_all = rows_ms == wanted.rows_ms
    reached = Horizon(
        rows_ms=max(rows_ms, at.horizon.rows_ms),
        counts_ms=wanted.counts_ms if is_all else at.horizon.counts_ms,
    )
    changes = Changes()
    for row in (await view.rows(subjects, at)).values():
        forget(changes, row)
    names = await view.names() if is_all else ()
    over = [name for name in names if is_over(name, reached.counts_ms)]
    return await view.commit(at, structs.replace(at, horizon=reached), changes, over)


def is_over(name: str, now_ms: int) -> bool:
    """Say whether a set or counter is a bucket that is no longer kept."""
    kind, _, start = name.partition(":")
    series = _SERIES.get(kind)
    return series is not None and series.is_over(int(start) * 1_000, now_ms)


_SERIES: Final = {series.name: series for one in PROJECTIONS for series in one.series}


async def _old(store: EventStore, view: View, before_ms: int) -> tuple[int, list[str]]:
    """Subjects that ended before a time, or as many of the oldest as are forgotten at once.

    And the time before which these are all.
    """
    oldest = ("ZRANGE", view.keys.named(ENDED), "-inf")
    async with answering():
        found: Any = await store.client.execute_command(
            *oldest, f"({before_ms}", "BYSCORE", "LIMIT", 0, _AT_ONCE, "WITHSCORES"
        )
        if len(found) // 2 < _AT_ONCE:
            return before_ms, [subject.decode() for subject in found[::2]]
        # Of those that ended in the same millisecond, all or none.
        last_ms = int(found[-1])
        found = await store.client.execute_command(*oldest, last_ms, "BYSCORE")
    return last_ms + 1, [subject.decode() for subject in found]
