"""What clients send and get: the shapes of `/v1/jobs`."""

from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from core.events import (
    AttemptFailed,
    Completed,
    Failed,
    JobError,
    Kind,
    Priority,
    Submitted,
    Usage,
)
from core.log import LogEntry
from core.settings import QUEUE_NAME
from core.states import Completed as CompletedState
from core.states import Ended, Job, Running, status_of
from core.store import View
from core.tracing import trace_id_in
from projections.reading.position import Position
from projections.reading.queues import QueueView
from projections.reading.usage import OutcomeView, UsageView
from projections.reading.workers import GpuView, RunningJob, WorkerView
from projections.rows import JobRow

# A model's name is whatever its server calls it.
# `$` alone would let a newline follow.
QueueName = Annotated[str, Meta(pattern=rf"^{QUEUE_NAME}$(?!\n)")]
ModelName = Annotated[str, Meta(pattern=r"^[^\s\x00-\x1f]{1,256}$(?!\n)")]
Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]
AttemptSeconds = Annotated[float, Meta(gt=0, le=86_400)]

DEFAULT_QUEUE = "default"


class SubmitJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to run. `request` is the body that the inference server gets for `kind`."""

    model: ModelName
    request: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
    kind: Kind = Kind.CHAT
    queue: QueueName = DEFAULT_QUEUE
    priority: Priority = Priority.NORMAL
    delay_seconds: Annotated[float, Meta(ge=0, le=366 * 86_400)] = 0
    deadline_seconds: Seconds | None = None
    timeout_seconds: AttemptSeconds | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    metadata: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
        Meta(max_length=16),
    ] = {}


class JobView(Struct, frozen=True, kw_only=True):
    """A job as it is now. Times are RFC 3339 in UTC, by the store's clock."""

    id: str
    status: str
    version: int
    model: str
    queue: str
    kind: Kind
    priority: Priority
    tenant: str
    attempt: int
    max_attempts: int
    position: int | None = None
    eta_seconds: float | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    due_at: str | None = None
    error: JobError | None = None
    usage: Usage | None = None
    metadata: dict[str, str] = {}
    worker: str | None = None
    position_in_log: str
    trace_id: str | UnsetType = UNSET  # Of the trace that it is part of; not in lists.
    forgotten: bool | UnsetType = UNSET  # True: its request and result are gone.
    note: str | UnsetType = (
        UNSET  # What an operator may want to know, such as that nobody serves it.
    )


class EventList(Struct, frozen=True):
    """A job's events, oldest first."""

    events: list[dict[str, Any]]


def timestamp(at_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC."""
    moment = datetime.fromtimestamp(at_ms / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_view(job_id: str, view: View, note: str | None = None) -> JobView:
    """A job as it is now, as clients see it."""
    head, last = view.head, view.last
    return _job_view(
        job_id,
        head.job,
        created_ms=head.time_ms(1),
        claimed_ms=head.time_ms(head.job.claimed) if head.job.claimed else 0,
        ended_ms=head.time_ms(head.job.ended) if isinstance(head.job, Ended) else None,
        due_ms=head.due_at_ms,
        error=last.error if isinstance(last, Failed | AttemptFailed) else None,
        usage=last.usage if isinstance(last, Completed) else None,
        metadata=view.submitted.metadata if view.submitted else {},
        log_id=head.log_ids[-1],
        trace_id=_trace_id(view.submitted),
        note=UNSET if note is None else note,
    )


def row_view(row: JobRow) -> JobView:
    """A job of a list, as clients see it."""
    return _job_view(
        row.id,
        row.job,
        created_ms=row.created_ms,
        claimed_ms=row.claimed_ms,
        ended_ms=row.ended_ms,
        due_ms=row.due_ms,
        error=row.error,
        usage=row.usage,
        metadata=row.metadata,
        log_id=row.log_id,
    )


def _job_view(
    job_id: str,
    job: Job,
    *,
    created_ms: int,
    claimed_ms: int,
    ended_ms: int | None,
    due_ms: int | None,
    error: JobError | None,
    usage: Usage | None,
    metadata: dict[str, str],
    log_id: str,
    trace_id: str | UnsetType = UNSET,
    note: str | UnsetType = UNSET,
) -> JobView:
    has_begun = isinstance(job, Running | CompletedState)
    return JobView(
        id=job_id,
        status=status_of(job),
        version=job.version,
        model=job.model,
        queue=job.queue,
        kind=job.kind,
        priority=job.priority,
        tenant=job.tenant,
        attempt=job.attempts + has_begun,
        max_attempts=job.attempts_max,
        created_at=timestamp(created_ms),
        started_at=timestamp(claimed_ms) if claimed_ms else None,
        finished_at=None if ended_ms is None else timestamp(ended_ms),
        due_at=None if due_ms is None else timestamp(due_ms),
        error=error,
        usage=usage,
        metadata=metadata,
        worker=job.worker if isinstance(job, Running) else None,
        position_in_log=log_id,
        trace_id=trace_id,
        forgotten=True if isinstance(job, Ended) and job.forgotten else UNSET,
        note=note,
    )


def _trace_id(submitted: Submitted | None) -> str | UnsetType:
    if submitted is None or submitted.traceparent is None:
        return UNSET
    return trace_id_in(submitted.traceparent)


def event_view(entry: LogEntry) -> dict[str, Any]:
    """An event as clients see it: where and when it is in the log, then what it carries."""
    fields = {name: getattr(entry.event, name) for name in entry.event.__struct_fields__}
    return {
        "version": entry.version,
        "type": entry.event.__struct_config__.tag,
        "at": timestamp(entry.at_ms),
        "position": entry.id,
        **fields,
    }


class _OfViews(Struct, frozen=True, kw_only=True):
    """An answer from the views."""

    position: str  # Of the log, up to which the views are folded; `min_position` takes it.
    note: str | UnsetType = UNSET  # Why the views do not move on, if they do not.


class JobList(_OfViews, frozen=True, kw_only=True):
    jobs: list[JobView]
    cursor: str | None  # Of the next page; null after the last.


class QueueList(_OfViews, frozen=True, kw_only=True):
    queues: list[QueueView]


class QueueShown(QueueView, frozen=True, kw_only=True):
    """A queue alone. It cannot be `_OfViews` too: msgspec lays out one base alone."""

    position: str
    note: str | UnsetType = UNSET


class WorkerShown(Struct, frozen=True, kw_only=True):
    """A worker: its facts and heartbeat as they are now, its jobs as the views have them."""

    name: str
    status: str
    alive: bool
    capacity: int
    running: list[RunningJob]
    queues: tuple[str, ...]  # Empty: every queue.
    models: tuple[str, ...]
    upstream: str
    host: str
    gpus: tuple[GpuView, ...]
    started_at: str
    last_seen_at: str | None
    done: dict[str, int]  # In the last day, by how the attempt ended.
    history: list[dict[str, str]]


class WorkerList(_OfViews, frozen=True, kw_only=True):
    workers: list[WorkerShown]


class UsageList(_OfViews, frozen=True, kw_only=True):
    usage: list[UsageView]


class OutcomeList(_OfViews, frozen=True, kw_only=True):
    outcomes: list[OutcomeView]


def note_of(position: Position) -> str | UnsetType:
    """Why the views do not move on, if they do not."""
    return UNSET if position.note is None else position.note


def worker_shown(view: WorkerView) -> WorkerShown:
    """A worker as clients see it."""
    return WorkerShown(
        name=view.name,
        status=view.status,
        alive=view.alive,
        capacity=view.capacity,
        running=view.running,
        queues=view.queues,
        models=view.models,
        upstream=view.upstream,
        host=view.host,
        gpus=view.gpus,
        started_at=timestamp(view.started_ms),
        last_seen_at=None if view.last_seen_ms is None else timestamp(view.last_seen_ms),
        done=view.done,
        history=[{"at": timestamp(one.at_ms), "status": one.status} for one in view.history],
    )
