"""Makes the workload of a stretch of time from the steps of a log. Pure.

A loss is the worker's, not the job's: who was taken back from one goes on with the visit that it was in,
so that a simulation can lose other workers, or none. Only where the loss was the end of the job is it kept.
"""

from collections import deque
from typing import Final

from core import events
from core.fleet import WorkerStatus
from core.ids import shard_of
from core.states import Job, Lane, Queued, Running
from projections.past.cluster import Cluster, Step
from projections.past.workload import Arrival, Pause, Played, Shift, Visit, Waited, Workload
from projections.rows import JobRow, QueueRow, WorkerRow

# A worker that can take a job does so within its poll of a second: what held it up longer, such as an
# inference server that did not answer, would not hold up others.
REACTION_MAX_MS: Final = 1_500


class Recorder:
    """Looks at the steps between two moments."""

    def __init__(self, from_ms: int, to_ms: int) -> None:
        self._from_ms, self._to_ms = from_ms, to_ms
        self._lives: dict[str, _Life] = {}  # Of jobs that are open.
        self._crew: dict[str, _Worker] = {}  # Workers that are there.
        self._resumed_ms: dict[str, int] = {}  # By queue.
        self._arrivals: list[Arrival] = []
        self._shifts: list[Shift] = []
        self._pauses: list[Pause] = []
        self._waits: list[Waited] = []
        self._busy_ms = 0

    def begin(self, cluster: Cluster) -> None:
        """What there is when the stretch begins."""
        for worker in cluster.living():
            self._see_worker(worker, self._from_ms)
            self._crew[worker.name].last_sign_ms = worker.since_ms
        for queue in cluster.queues.values():
            if queue.queue.paused:
                self._pauses.append(Pause(self._from_ms, queue.name, is_paused=True))
        for row in cluster.open.values():
            job = row.job
            if isinstance(job, Queued):
                life = self._lives[row.id] = _Life(job, row.since_ms)
                life.enter(row.since_ms, job.lane)
            elif isinstance(job, Running):
                life = self._lives[row.id] = _Life(job, self._from_ms, was_running=True)
                life.enter(self._from_ms, Lane.FRONT)
                life.claim(self._from_ms, 0)
                if job.worker in self._crew:
                    self._crew[job.worker].take_slot(self._from_ms)

    def see(self, step: Step) -> None:
        """Take note of one more step."""
        match step.after:
            case JobRow() as after:
                before = step.before.job if isinstance(step.before, JobRow) else None
                self._see_job(step, before, after)
            case WorkerRow() as worker:
                self._see_worker(worker, step.at_ms)
            case QueueRow() as queue:
                self._pauses.append(Pause(step.at_ms, queue.name, is_paused=queue.queue.paused))
                self._resumed_ms[queue.name] = step.at_ms

    def workload(self) -> Workload:
        """All of it, now that the stretch is over."""
        in_line = sum(life.in_line_ms is not None for life in self._lives.values())
        for job_id, life in self._lives.items():
            if life.is_running:
                life.end_attempt(self._to_ms)
                self._busy_ms += life.ran_ms
            self._finish(job_id, life)
        for worker in self._crew.values():
            self._shifts.append(worker.shift(self._to_ms))
        capacity_ms = sum(one.capacity * (one.until_ms - one.from_ms) for one in self._shifts)
        return Workload(
            from_ms=self._from_ms,
            to_ms=self._to_ms,
            arrivals=self._arrivals,
            shifts=self._shifts,
            pauses=self._pauses,
            recorded=Played(
                waits=self._waits,
                in_line=in_line,
                busy_ms=self._busy_ms,
                capacity_ms=capacity_ms,
            ),
        )

    def _see_job(self, step: Step, before: Job | None, after: JobRow) -> None:
        job, at_ms = after.job, step.at_ms
        was_in_line = isinstance(before, Queued)
        if isinstance(job, Running):
            if was_in_line:
                self._claimed(after.id, job, at_ms)
            return
        if isinstance(before, Running):
            self._left_its_slot(after.id, before.worker, step)
        if isinstance(job, Queued) and not was_in_line:
            if after.id not in self._lives:
                self._lives[after.id] = _Life(job, at_ms)
            self._lives[after.id].enter(at_ms, job.lane)
        elif was_in_line and not isinstance(job, Queued):
            self._lives[after.id].leave(at_ms)
        if after.ended_ms is not None and after.id in self._lives:
            self._finish(after.id, self._lives.pop(after.id))

    def _claimed(self, job_id: str, job: Running, at_ms: int) -> None:
        life = self._lives[job_id]
        in_line_ms = at_ms if life.in_line_ms is None else life.in_line_ms
        self._waits.append(Waited(at_ms - in_line_ms, job.queue, job.priority))
        could_ms = max(in_line_ms, self._resumed_ms.get(job.queue, 0))
        worker = self._crew.get(job.worker)
        if worker is not None:
            could_ms = max(could_ms, worker.take_slot(at_ms))
            worker.last_sign_ms = at_ms
        reaction_ms = max(0, at_ms - could_ms)
        life.claim(at_ms, reaction_ms if reaction_ms <= REACTION_MAX_MS else 0)

    def _left_its_slot(self, job_id: str, worker_name: str, step: Step) -> None:
        life, worker = self._lives[job_id], self._crew.get(worker_name)
        is_loss = isinstance(step.event, events.AttemptLost)
        if worker is not None:
            worker.free.append(step.at_ms)
            if not is_loss:
                worker.last_sign_ms = step.at_ms
        if is_loss:
            life.lose(step.at_ms)
        else:
            life.end_attempt(step.at_ms)
        self._busy_ms += life.ran_ms

    def _finish(self, job_id: str, life: "_Life") -> None:
        arrival = life.arrival(shard_of(job_id))
        if arrival is not None:
            self._arrivals.append(arrival)

    def _see_worker(self, row: WorkerRow, at_ms: int) -> None:
        match row.worker.status:
            case WorkerStatus.STARTED:
                self._crew[row.name] = _Worker(row, at_ms)
            case WorkerStatus.DRAINING:
                if row.name not in self._crew:
                    self._crew[row.name] = _Worker(row, at_ms)
                self._crew[row.name].claims_until_ms = at_ms
            case WorkerStatus.STOPPED | WorkerStatus.LOST:
                worker = self._crew.pop(row.name, None)
                if worker is not None:
                    is_lost = row.worker.status is WorkerStatus.LOST
                    self._shifts.append(worker.shift(at_ms, is_lost=is_lost))


class _Worker:
    """A worker that is there, and since when each of its free slots is free."""

    def __init__(self, row: WorkerRow, from_ms: int) -> None:
        self._row = row
        self._from_ms = from_ms
        self.free = deque([from_ms] * row.worker.capacity)
        self.last_sign_ms = from_ms
        self.claims_until_ms: int | None = None

    def take_slot(self, at_ms: int) -> int:
        """Take the slot that has been free for longest; since when."""
        return self.free.popleft() if self.free else at_ms

    def shift(self, until_ms: int, *, is_lost: bool = False) -> Shift:
        claims_until_ms = until_ms if self.claims_until_ms is None else self.claims_until_ms
        worker = self._row.worker
        return Shift(
            name=self._row.name,
            capacity=worker.capacity,
            queues=worker.queues,
            models=worker.models,
            from_ms=self._from_ms,
            claims_until_ms=min(claims_until_ms, self.last_sign_ms) if is_lost else claims_until_ms,
            until_ms=until_ms,
            is_lost=is_lost,
        )


class _Life:
    """A job's visits so far, and the one that goes on."""

    def __init__(self, job: Job, at_ms: int, *, was_running: bool = False) -> None:
        self.in_line_ms: int | None = None  # Since when it waits, if it does.
        self.is_running = False
        self.ran_ms = 0  # Its last attempt.
        self._job, self._at_ms, self._was_running = job, at_ms, was_running
        self._visits: list[Visit] = []
        self._lane = Lane.NORMAL
        self._delay_ms = self._reaction_ms = self._claimed_ms = 0
        self._ended_ms = at_ms
        self._lost_ms: int | None = None
        self._losses = 0  # Of this visit.

    def enter(self, at_ms: int, lane: Lane) -> None:
        """Come into line. After a loss it is the same visit still."""
        self.in_line_ms = at_ms
        if self._lost_ms is None:
            self._lane, self._delay_ms = lane, at_ms - self._ended_ms

    def claim(self, at_ms: int, reaction_ms: int) -> None:
        self.in_line_ms = self._lost_ms = None
        self.is_running = True
        self._claimed_ms, self._reaction_ms = at_ms, reaction_ms

    def lose(self, at_ms: int) -> None:
        self.is_running, self._lost_ms = False, at_ms
        self._losses += 1
        self.ran_ms = at_ms - self._claimed_ms

    def end_attempt(self, at_ms: int) -> None:
        self.is_running, self.ran_ms = False, at_ms - self._claimed_ms
        self._add(reaction_ms=self._reaction_ms, ran_ms=self.ran_ms)
        self._ended_ms = at_ms

    def leave(self, at_ms: int) -> None:
        """Go without a claim; at the very moment of a loss, that was the end."""
        if self._lost_ms == at_ms:
            losses = self._losses
            self._add(reaction_ms=self._reaction_ms, ran_ms=self.ran_ms, fatal_loss=losses)
        else:
            self._add(leaves_ms=at_ms)
        self.in_line_ms = self._lost_ms = None

    def arrival(self, shard: int) -> Arrival | None:
        """What the job asked for, if anything."""
        if self.in_line_ms is not None:
            self._add()
        if not self._visits:
            return None
        return Arrival(
            shard=shard,
            queue=self._job.queue,
            model=self._job.model,
            priority=self._job.priority,
            at_ms=self._at_ms,
            was_running=self._was_running,
            visits=tuple(self._visits),
        )

    def _add(
        self,
        *,
        reaction_ms: int = 0,
        ran_ms: int | None = None,
        leaves_ms: int | None = None,
        fatal_loss: int = 0,
    ) -> None:
        visit = Visit(
            delay_ms=self._delay_ms,
            lane=self._lane,
            reaction_ms=reaction_ms,
            ran_ms=ran_ms,
            leaves_ms=leaves_ms,
            fatal_loss=fatal_loss,
        )
        self._visits.append(visit)
        self._losses = 0
