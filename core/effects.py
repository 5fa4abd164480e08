"""What a transition changes besides the log: lanes, counters and timers.

A pure function of the job before, the events and the job after. The append carries these out in the
same atomic step as the events; its Lua knows no more of the business than this module tells it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from core.events import AttemptFailed, Completed, JobEvent, Submitted
from core.states import Job, Lane, Queued, Running, Scheduled, has_ended


class Timer(StrEnum):
    """What happens when a due time comes; a job can have one of each."""

    DUE = "due"  # A scheduled job goes to its lane.
    DEADLINE = "deadline"  # A job that has not started expires.


class Counter(StrEnum):
    """What is counted per queue."""

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    RUNNING = "running"


class Arm(Struct, frozen=True):
    """Set a timer to go off `delay_ms` after the log entry of version `since`."""

    timer: Timer
    delay_ms: int
    since: int


class Effects(Struct, frozen=True, kw_only=True):
    """The derived changes of one append."""

    leave: bool  # Acknowledge and delete the job's lane entry.
    enter: Lane | None  # Add the job to this lane.
    arm: tuple[Arm, ...]
    disarm: tuple[Timer, ...]
    counts: tuple[tuple[Counter, int], ...]
    in_flight: int  # What the jobs of its API key that have not ended become more by, or fewer.
    spends: int  # Tokens, out of its API key's bucket.
    ended: bool  # A life is over, so the head may expire once the retention time is.
    tell: str | None  # A worker that ought to look at once.


IN_A_LANE: Final = (Queued, Running)
_MAY_EXPIRE: Final = (Scheduled, Queued)
_COUNTERS: Final[dict[type, Counter]] = {
    Scheduled: Counter.SCHEDULED,
    Queued: Counter.WAITING,
    Running: Counter.RUNNING,
}


def effects(before: Job | None, events: Sequence[JobEvent], after: Job) -> Effects:
    """The derived changes that go with `events`, which led from `before` to `after`."""
    enters = after.lane if isinstance(after, Queued) and not _waits_on(before, after) else None
    stays = isinstance(after, IN_A_LANE) and enters is None
    return Effects(
        leave=isinstance(before, IN_A_LANE) and not stays,
        enter=enters,
        arm=_timers_to_arm(before, events, after),
        disarm=_timers_to_disarm(before, after),
        counts=_count_changes(before, after),
        in_flight=is_in_flight(after) - is_in_flight(before),
        spends=_tokens(events, after),
        ended=has_ended(after) and not (before is not None and has_ended(before)),
        tell=after.worker if isinstance(after, Running) and after.cancel_by is not None else None,
    )


def _waits_on(before: Job | None, after: Queued) -> bool:
    """Say whether it has been waiting all the while, with no claim in between."""
    return isinstance(before, Queued) and before.claims == after.claims


def _timers_to_arm(before: Job | None, events: Sequence[JobEvent], after: Job) -> tuple[Arm, ...]:
    due: tuple[Arm, ...] = ()
    if isinstance(after, Scheduled):
        delay_ms = sum(e.delay_ms for e in events if isinstance(e, (Submitted, AttemptFailed)))
        due = (Arm(Timer.DUE, delay_ms, after.version),)
    if (
        after.deadline_ms is None
        or isinstance(before, _MAY_EXPIRE)
        or not isinstance(after, _MAY_EXPIRE)
    ):
        return due
    return (*due, Arm(Timer.DEADLINE, after.deadline_ms, after.born))


def _timers_to_disarm(before: Job | None, after: Job) -> tuple[Timer, ...]:
    due = (Timer.DUE,) if isinstance(before, Scheduled) and type(after) is not Scheduled else ()
    if after.deadline_ms is None or not isinstance(before, _MAY_EXPIRE):
        return due
    return due if isinstance(after, _MAY_EXPIRE) else (*due, Timer.DEADLINE)


def _count_changes(before: Job | None, after: Job) -> tuple[tuple[Counter, int], ...]:
    left, entered = counter_of(before), counter_of(after)
    if left is entered:
        return ()
    changes = ((left, -1), (entered, +1))
    return tuple((counter, change) for counter, change in changes if counter is not None)


def counter_of(job: Job | None) -> Counter | None:
    """Where a job is counted; an ended one nowhere."""
    return _COUNTERS.get(type(job))


def is_in_flight(job: Job | None) -> bool:
    """Say whether a job counts among those of its API key that have not ended."""
    return job is not None and job.key is not None and not has_ended(job)


def _tokens(events: Sequence[JobEvent], after: Job) -> int:
    """What the inference server says that the answer took; nobody's if the job has no API key."""
    if after.key is None:
        return 0
    return sum(
        event.usage.total_tokens for event in events if isinstance(event, Completed) and event.usage
    )
