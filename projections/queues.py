"""Queues: how deep they are, who has waited longest, how fast they move, how long waits and runs take."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from core import events
from core.keys import LaneName
from core.states import Job, Lane, Queued, Running, Scheduled, has_ended
from projections.names import HOUR_MS, MINUTE_MS, by_queue
from projections.projection import Count, Gauge, Move, Place, Projection, Series, Step
from projections.rows import JobRow, Row

DEPTHS = "depths"
LINE = "line:"
PULSE = Series("pulse", MINUTE_MS, HOUR_MS)

# Upper bounds of the histograms' buckets; one more has what is longer than all of them.
BOUNDS_MS = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000),
)


_BUCKETS = {
    what: [f"{what}.{bucket}" for bucket in range(len(BOUNDS_MS) + 1)] for what in ("wait", "run")
}


@lru_cache(maxsize=4_096)
def line_key(lane: Lane, queue: str, model: str) -> str:
    """The name of the line of those who wait in a lane; scores are the log's sequence numbers."""
    return f"{LINE}{LaneName(lane, queue, model)}"


def _places(row: Row) -> tuple[Place, ...]:
    if isinstance(row, JobRow) and type(row.job) is Queued:
        return ((line_key(row.job.lane, row.job.queue, row.job.model), row.id, row.line),)
    return ()


def _gauges(row: Row) -> tuple[Gauge, ...]:
    if not isinstance(row, JobRow) or has_ended(row.job):
        return ()
    match row.job:
        case Queued():
            what = f"waiting.{row.job.priority}"
        case Running():
            what = "running"
        case Scheduled():
            what = "scheduled"
    return ((DEPTHS, f"{row.job.queue}:{what}"),)


def _arrived(move: Move) -> tuple[Count, ...]:
    return ((PULSE, by_queue(move.after, "arrived"), 1),)


def _finished(move: Move) -> tuple[Count, ...]:
    return ((PULSE, by_queue(move.after, "finished"), 1),)


def _waited(step: Step) -> tuple[Count, ...]:
    return _took(step, Queued, "wait")


def _ran(step: Step) -> tuple[Count, ...]:
    return _took(step, Running, "run")


def _took(step: Step, state: type[Job], what: str) -> tuple[Count, ...]:
    """How long the job was in `state`, if it was."""
    before = step.before
    if before is None or type(before.job) is not state:
        return ()
    bucket = bisect_left(BOUNDS_MS, step.at_ms - before.since_ms)
    return ((PULSE, by_queue(before.job, _BUCKETS[what][bucket]), 1),)


def percentile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """What `share` of a histogram lies below, taken to be spread evenly within its bucket.

    None for an empty histogram; the last bound for what is longer than all of them.
    """
    filled: Sequence[int] = [counts.get(bucket, 0) for bucket in range(len(BOUNDS_MS) + 1)]
    total = sum(filled)
    if not total:
        return None
    wanted = share * total
    for bucket, up_to in enumerate(accumulate(filled)):
        if filled[bucket] and up_to >= wanted:
            break
    if bucket == len(BOUNDS_MS):
        return float(BOUNDS_MS[-1])
    low = BOUNDS_MS[bucket - 1] if bucket else 0
    within = (wanted - (up_to - filled[bucket])) / filled[bucket]
    return low + within * (BOUNDS_MS[bucket] - low)


QUEUES = Projection(
    name="queues",
    version=1,
    places=_places,
    gauges=_gauges,
    counts={
        events.Submitted: _arrived,
        events.Requeued: _arrived,
        events.Completed: _finished,
        events.Failed: _finished,
        events.Cancelled: _finished,
        events.Expired: _finished,
    },
    measures={
        events.Claimed: _waited,
        events.AttemptFailed: _ran,
        events.Completed: _ran,
        events.Failed: _ran,
        events.Cancelled: _ran,
    },
    series=(PULSE,),
)
