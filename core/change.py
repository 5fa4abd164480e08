"""A change of a job as the process that wrote it knows it: what metrics and logs are made of."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from core.events import JobEvent
from core.states import Job


class Change(Struct, frozen=True, gc=False):
    """What one append wrote of a job. Each is told once, by the process whose append it was."""

    job_id: str
    before: Job | None  # None: it is new.
    events: Sequence[JobEvent]
    after: Job
    log_ids: tuple[str, ...]  # Of the events, with the time of each.


OnWritten = Callable[[Change], None]
