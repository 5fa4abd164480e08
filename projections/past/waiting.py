"""What happened while a job waited: who was ahead, who could have run it, what became of them. Pure."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from core import events
from core.events import AnyEvent
from core.fleet import WorkerStatus
from core.states import Job, Lane, Queued, Running
from projections.past.cluster import Cluster, Step
from projections.past.words import clock, some
from projections.rows import JobRow, QueueRow, WorkerRow

_HAPPENINGS_MAX: Final = 50
_URGENCY: Final = {lane: rank for rank, lane in enumerate(Lane)}


class Happening(Struct, frozen=True):
    """Something that made the wait longer or shorter."""

    at_ms: int
    what: str


class Wait(Struct, frozen=True, kw_only=True):
    """A time in line, from when the job entered it."""

    ahead: int  # Jobs of its queue and model that would be claimed before it.
    elsewhere: int  # Jobs that waited for the same workers in other lines.
    workers: int  # That served it, at its beginning.
    slots: int  # That those had.
    busy: int  # Of these slots.
    paused: bool
    claimed_ahead: int  # Of those ahead, how many began meanwhile.
    overtaken_by: int  # That came later, or waited elsewhere, and began first.
    happenings: tuple[Happening, ...]

    def says(self) -> str:
        """The wait in one sentence."""
        said = ["the queue was paused"] if self.paused else []
        if self.workers:
            busy = "all busy" if self.busy >= self.slots else f"{self.busy} busy"
            said.append(f"{some(self.ahead, 'job')} ahead")
            said.append(f"{some(self.workers, 'worker')} with {some(self.slots, 'slot')}, {busy}")
        else:
            said.append(f"no worker served it, {some(self.ahead, 'job')} ahead")
        if self.elsewhere:
            said.append(f"{self.elsewhere} in other lines for the same workers")
        said += [f"{one.what} at {clock(one.at_ms)}" for one in self.happenings]
        if self.overtaken_by:
            said.append(f"overtaken by {some(self.overtaken_by, 'job')}")
        return ", ".join(said)


class Waiting:
    """A wait that goes on."""

    def __init__(self, row: JobRow, cluster: Cluster) -> None:
        """`row` has just entered its line."""
        self._job = row.job
        able = [one for one in cluster.living() if self._may_run(one)]
        names = {one.name for one in able}
        others = [one for one in cluster.open.values() if one.id != row.id]
        in_line = [one for one in others if isinstance(one.job, Queued)]
        self._ahead = {
            one.id for one in in_line if self._is_same_line(one.job) and _is_before(one, row)
        }
        queue = cluster.queues.get(row.job.queue)
        self._paused = queue is not None and queue.queue.paused
        self._elsewhere = sum(
            not self._is_same_line(one.job) and _is_served(one.job, able) for one in in_line
        )
        self._workers, self._slots = len(able), sum(one.worker.capacity for one in able)
        self._busy = sum(isinstance(one.job, Running) and one.job.worker in names for one in others)
        self._claimed_ahead = self._overtaken_by = 0
        self._happenings: list[Happening] = []

    def see(self, step: Step) -> None:
        """Take note of what happened to another job, a worker or a queue."""
        match step.after:
            case JobRow() as other:
                self._see_job(step.event, other)
            case WorkerRow() as worker if self._may_run(worker):
                self._happen(step.at_ms, of_worker(worker))
            case QueueRow() as queue if queue.name == self._job.queue:
                paused = f"the queue was paused by {queue.by}"
                self._happen(step.at_ms, paused if queue.queue.paused else "it was resumed")

    def over(self) -> Wait:
        """The wait, if it ends here."""
        return Wait(
            ahead=len(self._ahead) + self._claimed_ahead,
            elsewhere=self._elsewhere,
            workers=self._workers,
            slots=self._slots,
            busy=self._busy,
            paused=self._paused,
            claimed_ahead=self._claimed_ahead,
            overtaken_by=self._overtaken_by,
            happenings=tuple(self._happenings),
        )

    def _see_job(self, event: AnyEvent, other: JobRow) -> None:
        if isinstance(event, events.Claimed):
            if other.id in self._ahead:
                self._ahead.discard(other.id)
                self._claimed_ahead += 1
            elif self._is_same_line(other.job):
                self._overtaken_by += 1

    def _is_same_line(self, job: Job) -> bool:
        return job.queue == self._job.queue and job.model == self._job.model

    def _may_run(self, row: WorkerRow) -> bool:
        return _is_served(self._job, [row])

    def _happen(self, at_ms: int, what: str) -> None:
        if len(self._happenings) < _HAPPENINGS_MAX:
            self._happenings.append(Happening(at_ms, what))


def _is_served(job: Job, workers: Iterable[WorkerRow]) -> bool:
    return any(
        job.model in row.worker.models and (not row.worker.queues or job.queue in row.worker.queues)
        for row in workers
    )


def _is_before(one: JobRow, other: JobRow) -> bool:
    """Say whether `one` is claimed first, as far as lanes and time decide."""
    assert isinstance(one.job, Queued)
    assert isinstance(other.job, Queued)
    mine = (_URGENCY[one.job.lane], one.since_ms, one.line)
    return mine < (_URGENCY[other.job.lane], other.since_ms, other.line)


_BECAME: Final = {
    WorkerStatus.STARTED: "started",
    WorkerStatus.DRAINING: "began to drain",
    WorkerStatus.STOPPED: "stopped",
    WorkerStatus.LOST: "was lost",
}


def of_worker(row: WorkerRow) -> str:
    """What became of a worker, in words."""
    return f"worker {row.name} {_BECAME[row.worker.status]}"
