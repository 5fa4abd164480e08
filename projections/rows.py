"""Rows: what is known of each subject of the log after its entries so far.

This is the one fold with a state. A projection is a pure function of rows, or of the step from one row
to the next, so that nothing else has to be remembered to go on with any of them.
"""

from typing import TypeVar, get_args

import msgspec
from msgspec import Struct, structs

from core import events
from core.events import AttemptFailed, Completed, Failed, JobError, JobEvent, Submitted, Usage
from core.fleet import Queue, Worker, evolve_queue, evolve_worker
from core.job import evolve
from core.log import LogEntry
from core.redaction import redacted_error
from core.states import Job, Queued, Scheduled, has_ended

VERSION = 2
HISTORY_MAX = 20  # Transitions of a worker that its row remembers.


class Unfoldable(Exception):
    """A log entry does not continue what came before it; the message says how."""


class _Row(Struct, frozen=True, array_like=True, tag=True):
    pass


class JobRow(_Row, tag="job", frozen=True):
    """A job, with what lists show of it. Times are in milliseconds since 1970, by Redis's clock."""

    id: str
    job: Job
    created_ms: int
    since_ms: int  # When it came into its present status.
    log_id: str  # Of its last entry.
    line: int  # The sequence number of the entry that last put it in line.
    claimed_ms: int = 0  # 0: never claimed.
    due_ms: int | None = None
    error: JobError | None = None
    usage: Usage | None = None
    metadata: dict[str, str] = {}

    @property
    def version(self) -> int:
        return self.job.version

    @property
    def subject(self) -> str:
        return self.id

    @property
    def ended_ms(self) -> int | None:
        """When its life ended; None while it has not."""
        return self.since_ms if has_ended(self.job) else None


class Transition(Struct, frozen=True, array_like=True):
    """What became of a worker, and when."""

    at_ms: int
    status: str


class WorkerRow(_Row, tag="worker", frozen=True):
    """A worker process."""

    name: str
    worker: Worker
    started_ms: int
    since_ms: int
    log_id: str
    history: tuple[Transition, ...]  # The newest, oldest first.

    @property
    def version(self) -> int:
        return self.worker.version

    @property
    def subject(self) -> str:
        return f"worker:{self.name}"

    @property
    def ended_ms(self) -> int | None:
        """When it stopped or was lost; None while it works."""
        return self.since_ms if self.worker.has_ended else None


class QueueRow(_Row, tag="queue", frozen=True):
    """A queue that was once paused."""

    name: str
    queue: Queue
    since_ms: int
    log_id: str
    by: str
    reason: str | None = None

    @property
    def version(self) -> int:
        return self.queue.version

    @property
    def subject(self) -> str:
        return f"queue:{self.name}"

    @property
    def ended_ms(self) -> int | None:
        """Never: operators make few of these, and a pause has to be known for as long as it lasts."""
        return None


Row = JobRow | WorkerRow | QueueRow

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Row).decode

_Kind = TypeVar("_Kind", JobRow, WorkerRow, QueueRow)

_OF_JOBS = frozenset(get_args(JobEvent))
_OF_WORKERS = frozenset(get_args(events.WorkerEvent))


def track(row: Row | None, entry: LogEntry) -> Row:
    """A subject's row after one more of its entries.

    Raises Unfoldable for an entry that is not the next one of its subject.
    """
    known = 0 if row is None else row.version
    if entry.version != known + 1:
        raise Unfoldable(
            f"entry {entry.id} is version {entry.version} of {entry.subject}, "
            f"whose version {known + 1} should come next"
        )
    kind = type(entry.event)
    if kind in _OF_JOBS:
        return _job(_as(JobRow, row, entry), entry)
    if kind in _OF_WORKERS:
        return _worker(_as(WorkerRow, row, entry), entry)
    return _queue(_as(QueueRow, row, entry), entry)


def _as(kind: type[_Kind], row: Row | None, entry: LogEntry) -> _Kind | None:
    if row is not None and not isinstance(row, kind):
        raise Unfoldable(f"entry {entry.id} is no event of {entry.subject}")
    return row


def _job(row: JobRow | None, entry: LogEntry) -> JobRow:
    event: JobEvent = entry.event  # type: ignore[assignment]
    at_ms = entry.at_ms
    if row is None:
        if not isinstance(event, Submitted):
            raise Unfoldable(f"entry {entry.id} begins job {entry.subject}, and is no submission")
        job = evolve(None, event)
        due_ms = at_ms + event.delay_ms if type(job) is Scheduled else None
        return JobRow(
            entry.subject,
            job,
            at_ms,
            at_ms,
            entry.id,
            entry.sequence,
            due_ms=due_ms,
            metadata=event.metadata,
        )
    job = evolve(row.job, event)
    kind = type(event)  # Compared as such: `isinstance` takes far longer to say no.
    if kind is events.Redacted:
        return _redacted(row, job, entry)
    has_moved = kind is not events.CancelRequested
    return JobRow(
        row.id,
        job,
        row.created_ms,
        at_ms if has_moved else row.since_ms,
        entry.id,
        entry.sequence if type(job) is Queued else row.line,
        at_ms if kind is events.Claimed else row.claimed_ms,
        at_ms + event.delay_ms if type(event) is AttemptFailed else None,
        event.error if type(event) is AttemptFailed or type(event) is Failed else None,
        event.usage if type(event) is Completed else None,
        row.metadata,
    )


def _redacted(row: JobRow, job: Job, entry: LogEntry) -> JobRow:
    """The row without what a person wrote: as it would be, had nobody ever written it."""
    error = row.error and redacted_error(row.error)
    return structs.replace(row, job=job, log_id=entry.id, error=error, metadata={})


def _worker(row: WorkerRow | None, entry: LogEntry) -> WorkerRow:
    event: events.WorkerEvent = entry.event  # type: ignore[assignment]
    at_ms = entry.at_ms
    try:
        worker = evolve_worker(None if row is None else row.worker, event)
    except ValueError as error:
        raise Unfoldable(f"entry {entry.id}: {error}") from error
    moved = Transition(at_ms, worker.status.value)
    name = entry.subject.partition(":")[2]
    if row is None:
        return WorkerRow(name, worker, at_ms, at_ms, entry.id, (moved,))
    history = (*row.history, moved)[-HISTORY_MAX:]
    return WorkerRow(name, worker, row.started_ms, at_ms, entry.id, history)


def _queue(row: QueueRow | None, entry: LogEntry) -> QueueRow:
    event: events.QueueEvent = entry.event  # type: ignore[assignment]
    queue = evolve_queue(None if row is None else row.queue, event)
    reason = event.reason if isinstance(event, events.QueuePaused) else None
    name = entry.subject.partition(":")[2]
    return QueueRow(name, queue, entry.at_ms, entry.id, event.by, reason)
