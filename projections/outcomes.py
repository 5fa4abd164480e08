"""Outcomes: how attempts and jobs ended, errors by their kind, by queue and model."""

from core.events import AttemptFailed, AttemptLost, Cancelled, Completed, Expired, Failed
from core.log import tag_of, tag_of_type
from projections.names import DAY_MS, HOUR_MS, by_queue
from projections.projection import Count, Move, Projection, Series, Step

HOURLY = Series("outcomes", HOUR_MS, 7 * DAY_MS)


def _ended(move: Move) -> tuple[Count, ...]:
    return ((HOURLY, by_queue(move.after, tag_of_type(move.event)), 1),)


def _went_wrong(step: Step) -> tuple[Count, ...]:
    if not isinstance(step.event, AttemptFailed | Failed):
        return ()
    what = f"{tag_of(step.event)}.{step.event.error.kind}"
    return ((HOURLY, by_queue(step.after.job, what), 1),)


def _lost(step: Step) -> tuple[Count, ...]:
    if not isinstance(step.event, AttemptLost):
        return ()
    return ((HOURLY, by_queue(step.after.job, f"attempt_lost.{step.event.why}"), 1),)


OUTCOMES = Projection(
    name="outcomes",
    version=1,
    counts=dict.fromkeys((Completed, Cancelled, Expired), _ended),
    measures={
        Failed: _went_wrong,
        AttemptFailed: _went_wrong,
        AttemptLost: _lost,
    },
    series=(HOURLY,),
)
