"""Usage: requests and tokens by tenant, model and day (of UTC)."""

from core.events import Completed, Failed, Requeued, Submitted
from projections.names import DAY_MS, by_tenant
from projections.projection import Count, Move, Projection, Series, Step

DAILY = Series("usage", DAY_MS, 400 * DAY_MS)


def _requested(move: Move) -> tuple[Count, ...]:
    return ((DAILY, by_tenant(move.after, "requests"), 1),)


def _completed(move: Move) -> tuple[Count, ...]:
    return ((DAILY, by_tenant(move.after, "completed"), 1),)


def _used(step: Step) -> tuple[Count, ...]:
    if not isinstance(step.event, Completed) or step.event.usage is None:
        return ()
    used = step.event.usage
    return (
        (DAILY, by_tenant(step.after.job, "prompt_tokens"), used.prompt_tokens),
        (DAILY, by_tenant(step.after.job, "completion_tokens"), used.completion_tokens),
    )


def _failed(move: Move) -> tuple[Count, ...]:
    return ((DAILY, by_tenant(move.after, "failed"), 1),)


USAGE = Projection(
    name="usage",
    version=1,
    counts={
        Submitted: _requested,
        Requeued: _requested,
        Completed: _completed,
        Failed: _failed,
    },
    measures={Completed: _used},
    series=(DAILY,),
)
