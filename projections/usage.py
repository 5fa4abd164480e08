"""Usage: requests and tokens by tenant, model and day (of UTC)."""

from collections.abc import Iterator

from core.events import Completed, Failed, Requeued, Submitted
from projections.names import DAY_MS, by_tenant
from projections.projection import Count, Projection, Series, Step
from projections.rows import JobRow

DAILY = Series("usage", DAY_MS, 400 * DAY_MS)


def _requested(step: Step) -> Iterator[Count]:
    assert isinstance(step.after, JobRow)
    yield Count(DAILY, by_tenant(step.after, "requests"))


def _completed(step: Step) -> Iterator[Count]:
    assert isinstance(step.after, JobRow)
    yield Count(DAILY, by_tenant(step.after, "completed"))
    used = step.after.usage
    if used is not None and used.prompt_tokens:
        yield Count(DAILY, by_tenant(step.after, "prompt_tokens"), used.prompt_tokens)
    if used is not None and used.completion_tokens:
        yield Count(DAILY, by_tenant(step.after, "completion_tokens"), used.completion_tokens)


def _failed(step: Step) -> Iterator[Count]:
    assert isinstance(step.after, JobRow)
    yield Count(DAILY, by_tenant(step.after, "failed"))


USAGE = Projection(
    name="usage",
    version=1,
    counts={
        Submitted: _requested,
        Requeued: _requested,
        Completed: _completed,
        Failed: _failed,
    },
    series=(DAILY,),
)
