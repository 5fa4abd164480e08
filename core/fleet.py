"""Workers and queues as subjects of the log: what their events mean. Pure.

They are on the log of shard 0 because replay needs them: without the capacity over time no incident
can be explained.
"""

from enum import StrEnum
from typing import assert_never

from msgspec import Struct, structs

from core.events import (
    Gpu,
    QueueEvent,
    QueuePaused,
    QueueResumed,
    WorkerDraining,
    WorkerEvent,
    WorkerLost,
    WorkerStarted,
    WorkerStopped,
)


class WorkerStatus(StrEnum):
    STARTED = "started"  # Claims. The worker itself moves it on, or whoever finds it silent.
    DRAINING = "draining"  # Finishes what it has.
    STOPPED = "stopped"  # Final.
    LOST = "lost"  # Silent for a lease, its jobs taken back. It starts anew if it was only cut off.


class Worker(Struct, frozen=True, kw_only=True):
    """A worker process, after some of its events."""

    version: int
    status: WorkerStatus
    capacity: int
    queues: tuple[str, ...]
    models: tuple[str, ...]
    upstream: str
    host: str
    gpus: tuple[Gpu, ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.status in (WorkerStatus.STOPPED, WorkerStatus.LOST)


class Queue(Struct, frozen=True, kw_only=True):
    """A queue that was once paused; one that never was has no head."""

    version: int
    paused: bool


class FactRefused(Exception):
    """What a worker is does not allow what is said to have happened to it."""


def worker_subject(worker: str) -> str:
    return f"worker:{worker}"


def queue_subject(queue: str) -> str:
    return f"queue:{queue}"


def check(worker: Worker | None, event: WorkerEvent) -> None:
    """Raises FactRefused unless `event` may come next."""
    may_start = worker is None or worker.status is WorkerStatus.LOST
    if isinstance(event, WorkerStarted) != may_start:
        status = "not known" if worker is None else worker.status.value
        raise FactRefused(f"the worker is {status}")


def evolve_worker(worker: Worker | None, event: WorkerEvent) -> Worker:
    """The worker after one more event."""
    match event:
        case WorkerStarted():
            fields = structs.asdict(event)
            version = 1 if worker is None else worker.version + 1
            return Worker(version=version, status=WorkerStatus.STARTED, **fields)
        case WorkerDraining():
            status = WorkerStatus.DRAINING
        case WorkerStopped():
            status = WorkerStatus.STOPPED
        case WorkerLost():
            status = WorkerStatus.LOST
        case _:
            assert_never(event)
    if worker is None:
        raise ValueError("the history does not begin with `worker_started`")
    return structs.replace(worker, version=worker.version + 1, status=status)


def decide_queue(
    queue: Queue | None, paused: bool, by: str, reason: str | None = None
) -> QueueEvent | None:
    """The event that makes a queue paused, or not; None if it is so already."""
    if (queue is not None and queue.paused) == paused:
        return None
    return QueuePaused(by=by, reason=reason) if paused else QueueResumed(by=by)


def evolve_queue(queue: Queue | None, event: QueueEvent) -> Queue:
    """The queue after one more event."""
    version = 1 if queue is None else queue.version + 1
    match event:
        case QueuePaused():
            return Queue(version=version, paused=True)
        case QueueResumed():
            return Queue(version=version, paused=False)
        case _:
            assert_never(event)
