"""Attempts: each time that a job was in a worker's slot, and how long it had waited for that. Pure."""

from msgspec import Struct

from core import events
from core.events import ErrorKind, Priority
from core.log import tag_of
from core.states import Queued, Running
from projections.past.cluster import Step
from projections.rows import JobRow


class Attempt(Struct, frozen=True, kw_only=True):
    """A job in a slot; times are in milliseconds, by Redis's clock."""

    job_id: str
    queue: str
    model: str
    priority: Priority
    worker: str
    claim: int
    in_line_ms: int  # When it began to wait for this.
    claimed_ms: int
    ended_ms: int
    outcome: str  # The event that ended it.
    error: ErrorKind | None = None

    @property
    def waited_ms(self) -> int:
        return self.claimed_ms - self.in_line_ms

    @property
    def ran_ms(self) -> int:
        return self.ended_ms - self.claimed_ms


class Attempts:
    """Finds the attempts in the steps of a log. It remembers only those that go on."""

    def __init__(self) -> None:
        self._in_line_ms: dict[str, int] = {}  # Of the jobs that run.

    def see(self, step: Step) -> Attempt | None:
        """The attempt that a step ended, if it did."""
        before, after = step.before, step.after
        if not isinstance(after, JobRow) or not isinstance(before, JobRow):
            return None
        if isinstance(before.job, Queued) and isinstance(after.job, Running):
            self._in_line_ms[after.id] = before.since_ms
            return None
        if not isinstance(before.job, Running) or isinstance(after.job, Running):
            return None
        return self._attempt(before, before.job, step)

    def resume(self, row: JobRow) -> None:
        """Remember a job that runs already; how long it had waited is not known."""
        self._in_line_ms.setdefault(row.id, row.claimed_ms)

    def going_on(self, rows: list[JobRow], until_ms: int) -> list[Attempt]:
        """The attempts of jobs that still run."""
        return [
            self._of(row, row.job, until_ms, "running", None)
            for row in rows
            if isinstance(row.job, Running)
        ]

    def _attempt(self, row: JobRow, job: Running, step: Step) -> Attempt:
        event = step.event
        error = (
            event.error.kind if isinstance(event, events.AttemptFailed | events.Failed) else None
        )
        ended = self._of(row, job, step.at_ms, tag_of(event), error)
        self._in_line_ms.pop(row.id, None)
        return ended

    def _of(
        self, row: JobRow, job: Running, ended_ms: int, outcome: str, error: ErrorKind | None
    ) -> Attempt:
        return Attempt(
            job_id=row.id,
            queue=job.queue,
            model=job.model,
            priority=job.priority,
            worker=job.worker,
            claim=job.claims,
            in_line_ms=self._in_line_ms.get(row.id, row.claimed_ms),
            claimed_ms=row.claimed_ms,
            ended_ms=ended_ms,
            outcome=outcome,
            error=error,
        )
