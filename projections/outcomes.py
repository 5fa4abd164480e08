"""Outcomes: how attempts and jobs ended, errors by their kind, by queue and model."""

from collections.abc import Iterator

from core import events
from projections.names import DAY_MS, HOUR_MS, by_queue
from projections.projection import Count, Projection, Series, Step
from projections.rows import JobRow

HOURLY = Series("outcomes", HOUR_MS, 7 * DAY_MS)


def _ended(step: Step) -> Iterator[Count]:
    assert isinstance(step.after, JobRow)
    yield Count(HOURLY, by_queue(step.after, str(step.entry.event.__struct_config__.tag)))


def _went_wrong(step: Step) -> Iterator[Count]:
    assert isinstance(step.after, JobRow)
    event = step.entry.event
    if isinstance(event, events.AttemptFailed | events.Failed):
        tag = event.__struct_config__.tag
        yield Count(HOURLY, by_queue(step.after, f"{tag}.{event.error.kind}"))


def _lost(step: Step) -> Iterator[Count]:
    assert isinstance(step.after, JobRow)
    event = step.entry.event
    if isinstance(event, events.AttemptLost):
        yield Count(HOURLY, by_queue(step.after, f"attempt_lost.{event.why}"))


OUTCOMES = Projection(
    name="outcomes",
    version=1,
    counts={
        events.Completed: _ended,
        events.Cancelled: _ended,
        events.Expired: _ended,
        events.Failed: _went_wrong,
        events.AttemptFailed: _went_wrong,
        events.AttemptLost: _lost,
    },
    series=(HOURLY,),
)
