"""Workers: what each runs now, and what it has done. What it is, its row says."""

from core import events
from core.log import tag_of_type
from core.states import Running
from projections.names import DAY_MS, HOUR_MS
from projections.projection import Count, Move, Place, Projection, Series
from projections.rows import JobRow, Row

RUNNING = "running:"
DONE = Series("done", HOUR_MS, DAY_MS)


def running_key(worker: str) -> str:
    """The name of the set of what a worker runs; scores are the times of the claims."""
    return f"{RUNNING}{worker}"


def _places(row: Row) -> tuple[Place, ...]:
    if isinstance(row, JobRow) and type(row.job) is Running:
        return ((running_key(row.job.worker), row.id, row.since_ms),)
    return ()


def _ended(move: Move) -> tuple[Count, ...]:
    """How the attempt of a running job ended, for the worker that had it."""
    if type(move.before) is not Running:
        return ()
    return ((DONE, f"{tag_of_type(move.event)}:{move.before.worker}", 1),)


WORKERS = Projection(
    name="workers",
    version=1,
    places=_places,
    counts=dict.fromkeys(
        (
            events.AttemptFailed,
            events.AttemptLost,
            events.Completed,
            events.Failed,
            events.Cancelled,
        ),
        _ended,
    ),
    series=(DONE,),
)
