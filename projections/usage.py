"""Usage: requests and tokens by tenant, model and day (of UTC)."""

from core.events import Completed, Failed, Requeued, Submitted
from projections.names import DAY_MS, by_tenant
from projections.projection import Count, Projection, Series, Step

DAILY = Series("usage", DAY_MS, 400 * DAY_MS)


def _requested(step: Step) -> tuple[Count, ...]:
    return ((DAILY, by_tenant(step.after.job, "requests"), 1),)


def _completed(step: Step) -> tuple[Count, ...]:
    completed = (DAILY, by_tenant(step.after.job, "completed"), 1)
    if not isinstance(step.event, Completed) or step.event.usage is None:
        return (completed,)
    used = step.event.usage
    return (
        completed,
        (DAILY, by_tenant(step.after.job, "prompt_tokens"), used.prompt_tokens),
        (DAILY, by_tenant(step.after.job, "completion_tokens"), used.completion_tokens),
    )


def _failed(step: Step) -> tuple[Count, ...]:
    return ((DAILY, by_tenant(step.after.job, "failed"), 1),)


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
