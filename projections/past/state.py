"""What an operator would have seen at a moment: queues, workers and what they ran, capacity. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from msgspec import Struct

from core.fleet import WorkerStatus
from core.states import Queued, Running, Scheduled
from projections.past.cluster import Cluster
from projections.rows import JobRow, WorkerRow


class RunningThen(Struct, frozen=True, kw_only=True):
    """A job in a worker's slot."""

    job_id: str
    queue: str
    model: str
    since_ms: int


class WorkerThen(Struct, frozen=True, kw_only=True):
    """A worker, and what it ran."""

    name: str
    status: WorkerStatus
    capacity: int
    models: tuple[str, ...]
    queues: tuple[str, ...]  # Empty: every queue.
    since_ms: int  # When it came into this status.
    running: tuple[RunningThen, ...]


class QueueThen(Struct, frozen=True, kw_only=True):
    """A queue, how full it was, and who waited longest."""

    name: str
    paused: bool
    waiting: int
    waiting_by_priority: dict[str, int]
    waiting_by_model: dict[str, int]
    running: int
    scheduled: int
    oldest_waiting_ms: int | None  # For how long.


class State(Struct, frozen=True, kw_only=True):
    """The cluster at `at_ms`; times are in milliseconds, by Redis's clock."""

    at_ms: int
    entries: int  # Of the log up to then.
    waiting: int
    running: int
    scheduled: int
    capacity: int  # Jobs at once, of the workers that claimed.
    queues: tuple[QueueThen, ...]
    workers: tuple[
        WorkerThen, ...
    ]  # That were there, and those lost or stopped in the hour before.


_GONE_FOR_MS = 3_600_000


def state_of(cluster: Cluster, at_ms: int) -> State:
    """The state after all entries that were folded; `at_ms` is not before the last of them."""
    queues = _queues(cluster, at_ms)
    workers = _workers(cluster, at_ms)
    return State(
        at_ms=at_ms,
        entries=cluster.entries,
        waiting=sum(queue.waiting for queue in queues),
        running=sum(queue.running for queue in queues),
        scheduled=sum(queue.scheduled for queue in queues),
        capacity=sum(one.capacity for one in workers if one.status is WorkerStatus.STARTED),
        queues=queues,
        workers=workers,
    )


def _queues(cluster: Cluster, at_ms: int) -> tuple[QueueThen, ...]:
    jobs: dict[str, list[JobRow]] = defaultdict(list)
    for row in cluster.open.values():
        jobs[row.job.queue].append(row)
    paused = {row.name for row in cluster.queues.values() if row.queue.paused}
    return tuple(
        _queue(name, jobs[name], at_ms, paused=name in paused) for name in sorted({*jobs, *paused})
    )


def _queue(name: str, rows: list[JobRow], at_ms: int, *, paused: bool) -> QueueThen:
    waiting = [row for row in rows if isinstance(row.job, Queued)]
    oldest = min((row.since_ms for row in waiting), default=None)
    return QueueThen(
        name=name,
        paused=paused,
        waiting=len(waiting),
        waiting_by_priority=dict(Counter(row.job.priority.value for row in waiting)),
        waiting_by_model=dict(Counter(row.job.model for row in waiting)),
        running=sum(isinstance(row.job, Running) for row in rows),
        scheduled=sum(isinstance(row.job, Scheduled) for row in rows),
        oldest_waiting_ms=None if oldest is None else at_ms - oldest,
    )


def _workers(cluster: Cluster, at_ms: int) -> tuple[WorkerThen, ...]:
    running: dict[str, list[RunningThen]] = defaultdict(list)
    for row in cluster.open.values():
        if isinstance(row.job, Running):
            job = row.job
            running[job.worker].append(
                RunningThen(job_id=row.id, queue=job.queue, model=job.model, since_ms=row.since_ms)
            )
    rows = (row for row in cluster.workers.values() if _is_shown(row, at_ms, running))
    return tuple(
        WorkerThen(
            name=row.name,
            status=row.worker.status,
            capacity=row.worker.capacity,
            models=row.worker.models,
            queues=row.worker.queues,
            since_ms=row.since_ms,
            running=tuple(sorted(running[row.name], key=lambda one: one.since_ms)),
        )
        for row in sorted(rows, key=lambda row: row.started_ms)
    )


def _is_shown(row: WorkerRow, at_ms: int, running: Iterable[str]) -> bool:
    return not row.worker.has_ended or row.name in running or at_ms - row.since_ms <= _GONE_FOR_MS
