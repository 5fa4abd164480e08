"""A job's life: each transition with its cause, and what each gap between two was spent on. Pure."""

from msgspec import Struct

from core import events
from core.events import AnyEvent
from core.log import LogEntry, tag_of
from core.states import Queued, Running, Scheduled, has_ended, status_of
from projections.past.cluster import Cluster, Step
from projections.past.waiting import Wait, Waiting
from projections.past.words import duration
from projections.rows import JobRow, track


class Span(Struct, frozen=True, kw_only=True):
    """The time between two transitions."""

    status: str  # The job's, meanwhile.
    ms: int
    says: str  # What it was spent on.
    wait: Wait | None = None  # If the job was in line.


class Moment(Struct, frozen=True, kw_only=True):
    """A transition."""

    at_ms: int
    version: int
    type: str
    position: str  # In the log.
    says: str
    before: Span | None  # None for the first one.


class Timeline(Struct, frozen=True, kw_only=True):
    """A job's life, up to `until_ms`; times are in milliseconds, by Redis's clock."""

    job_id: str
    queue: str
    model: str
    tenant: str
    status: str
    moments: tuple[Moment, ...]
    until_ms: int
    now: Span | None  # What it has been doing since the last transition, if it has not ended.
    spent_ms: dict[str, int]  # By status.


class Teller:
    """Tells one job's timeline from the steps of a whole log."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._row: JobRow | None = None
        self._moments: list[Moment] = []
        self._spent_ms: dict[str, int] = {}
        self._waiting: Waiting | None = None

    @property
    def has_ended(self) -> bool:
        """Say whether the job has, for now: a requeue gives it another life."""
        return self._row is not None and has_ended(self._row.job)

    def see_redacted(self, entry: LogEntry, cluster: Cluster) -> None:
        """Take note of an entry that is no step: the job's content is forgotten, if it is this job's."""
        row = self._row
        if (
            row is not None
            and entry.subject == self._job_id
            and type(entry.event) is events.Redacted
        ):
            self.see(entry, Step(entry.event, entry.at_ms, row, track(row, entry)), cluster)

    def see(self, entry: LogEntry, step: Step, cluster: Cluster) -> None:
        """Take note of one more step; `cluster` is as it was after it."""
        if entry.subject != self._job_id:
            if self._waiting is not None:
                self._waiting.see(step)
            return
        assert isinstance(step.after, JobRow), "a job's id is no worker's"
        before = self._span(step.at_ms)
        if before is not None:
            spent_ms = self._spent_ms.get(before.status, 0)
            self._spent_ms[before.status] = spent_ms + before.ms
        self._moments.append(
            Moment(
                at_ms=step.at_ms,
                version=entry.version,
                type=tag_of(step.event),
                position=entry.id,
                says=_says(step.event),
                before=before,
            )
        )
        self._row = step.after
        is_in_line = isinstance(step.after.job, Queued)
        self._waiting = Waiting(step.after, cluster) if is_in_line else None

    def tell(self, until_ms: int) -> Timeline | None:
        """The timeline so far; None if the log has not heard of the job."""
        if self._row is None:
            return None
        job = self._row.job
        return Timeline(
            job_id=self._job_id,
            queue=job.queue,
            model=job.model,
            tenant=job.tenant,
            status=status_of(job),
            moments=tuple(self._moments),
            until_ms=until_ms,
            now=None if has_ended(job) else self._span(until_ms),
            spent_ms=dict(self._spent_ms),
        )

    def _span(self, until_ms: int) -> Span | None:
        """What the job has been doing since its last transition."""
        if self._row is None:
            return None
        job, ms = self._row.job, until_ms - self._moments[-1].at_ms
        wait = self._waiting.over() if self._waiting is not None else None
        match job:
            case Queued():
                said = f"waited {duration(ms)}" + (f": {wait.says()}" if wait is not None else "")
            case Running(cancel_by=None):
                said = f"ran {duration(ms)} on {job.worker}"
            case Running():
                said = f"{job.worker} took {duration(ms)} to stop"
            case Scheduled():
                said = f"not due for {duration(ms)}"
            case _:
                said = f"over for {duration(ms)}"
        return Span(status=status_of(job), ms=ms, says=said, wait=wait)


def _says(event: AnyEvent) -> str:
    """An event with its cause, in words."""
    match event:
        case events.Submitted(delay_ms=delay_ms):
            what = f"submitted to queue {event.queue} for {event.model}, priority {event.priority}"
            return f"{what}, to run in {duration(delay_ms)}" if delay_ms else what
        case events.Enqueued(why=why):
            return f"in line: {why}"
        case events.Claimed(claim=claim, attempt=attempt, worker=worker):
            return f"claimed by {worker}: attempt {attempt}, claim {claim}"
        case events.AttemptFailed(attempt=attempt, error=error, delay_ms=delay_ms):
            again = f"again in {duration(delay_ms)}"
            return f"attempt {attempt} failed, {error.kind}: {error.message}; {again}"
        case events.AttemptLost(worker=worker, why=why):
            return f"taken back from {worker}: {why}"
        case events.Completed(usage=usage, timings=timings):
            first = timings.first_token_ms
            said = (
                "completed" if first is None else f"completed; first token after {duration(first)}"
            )
            return said if usage is None else f"{said}, {usage.total_tokens} tokens"
        case events.Failed(error=error):
            return f"failed, {error.kind}: {error.message}"
        case events.CancelRequested(by=by, reason=reason) | events.Cancelled(by=by, reason=reason):
            what = "cancelled" if isinstance(event, events.Cancelled) else "asked to stop"
            return f"{what} by {by}" + (f": {reason}" if reason else "")
        case events.Expired(deadline_ms=deadline_ms):
            return f"expired: not started within {duration(deadline_ms)}"
        case events.Requeued(by=by):
            return f"given another life by {by}"
        case events.Redacted(by=by, reason=reason):
            return f"request and result forgotten by {by}" + (f": {reason}" if reason else "")
        case _:
            return tag_of(event)
