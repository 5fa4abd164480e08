"""Makes the report of an incident from the steps of a log. Pure; memory grows with what is open."""

from collections import Counter
from heapq import heappush, heappushpop
from typing import Final

from msgspec import Struct

from core import events
from core.events import LostBecause
from core.fleet import WorkerStatus
from core.states import Queued, Running, has_ended, status_of
from projections.past.attempts import Attempt, Attempts
from projections.past.cluster import Cluster, Step
from projections.past.findings import findings
from projections.past.report import Change, Hurt, Percentiles, Report, Slice, Stay
from projections.past.sketch import Sketch
from projections.past.waiting import of_worker
from projections.rows import JobRow, QueueRow, WorkerRow

SLICES: Final = 120
HURT_MAX: Final = 20
CHANGES_MAX: Final = 200
STAYS_MAX: Final = 40


class _Toll(Struct):
    """What a job has lost so far."""

    waited_ms: int = 0
    wasted_ms: int = 0
    attempts: int = 0
    outcome: str = ""


class _Open:
    """The slice that is being counted."""

    def __init__(self, from_ms: int, waiting: int, running: int) -> None:
        self.from_ms = from_ms
        self.arrived = self.claimed = 0
        self.ended: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.waiting, self.running = waiting, running
        self.waits = Sketch()

    def close(self, capacity: int) -> Slice:
        return Slice(
            from_ms=self.from_ms,
            arrived=self.arrived,
            claimed=self.claimed,
            ended=dict(self.ended),
            failures=dict(self.failures),
            waiting=self.waiting,
            running=self.running,
            capacity=capacity,
            wait_ms=percentiles(self.waits),
        )


class Investigator:
    """Looks at a log from before `from_ms` up to `to_ms`."""

    def __init__(self, from_ms: int, to_ms: int) -> None:
        self._from_ms, self._to_ms = from_ms, to_ms
        self._step_ms = max(1, -(-(to_ms - from_ms) // SLICES))
        self._attempts = Attempts()
        self._waiting = self._running = self._capacity = 0
        self._submitted = self._lost = self._changes_left_out = 0
        self._ended: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._waits, self._waits_before = Sketch(), Sketch()
        self._slices: list[Slice] = []
        self._open: _Open | None = None  # None: nothing has come of that time yet.
        self._changes: list[Change] = []
        self._started_ms: dict[str, int] = {}  # Of the workers that are there.
        self._stays: list[Stay] = []
        self._tolls: dict[str, _Toll] = {}  # Of open jobs.
        self._hurt: list[tuple[tuple[bool, int], str, Hurt]] = []

    def see(self, step: Step) -> None:
        """Take note of one more step."""
        is_within = step.at_ms >= self._from_ms
        if is_within:
            self._open = self._slice_of(step.at_ms)
        match step.after:
            case JobRow() as after:
                before = step.before if isinstance(step.before, JobRow) else None
                self._count(before, -1)
                self._count(after, +1)
                self._see_job(step, before, after)
            case WorkerRow() as after:
                known = step.before if isinstance(step.before, WorkerRow) else None
                self._capacity += _slots(after) - (_slots(known) if known else 0)
                self._see_worker(after, step.at_ms)
                if is_within:
                    slots = f"{_slots(after) or after.worker.capacity} slots"
                    self._change(step.at_ms, f"{of_worker(after)} ({slots})")
            case QueueRow() as after if is_within:
                verb = "paused" if after.queue.paused else "resumed"
                why = f": {after.reason}" if after.reason else ""
                self._change(step.at_ms, f"queue {after.name} was {verb} by {after.by}{why}")
        if self._open is not None:
            self._open.waiting = max(self._open.waiting, self._waiting)
            self._open.running = max(self._open.running, self._running)

    def report(self, cluster: Cluster) -> Report:
        """The report, with those that are still open at the end."""
        last = self._slice_of(self._to_ms)
        for row in cluster.open.values():
            toll = self._tolls.get(row.id, _Toll())
            if isinstance(row.job, Queued):
                toll.waited_ms += self._to_ms - max(row.since_ms, self._from_ms)
                toll.outcome = "still in line"
            self._remember(row, toll)
        report = Report(
            from_ms=self._from_ms,
            to_ms=self._to_ms,
            submitted=self._submitted,
            ended=dict(self._ended),
            failures=dict(self._failures),
            lost=self._lost,
            wait_ms=percentiles(self._waits),
            wait_before_ms=percentiles(self._waits_before),
            slices=(*self._slices, last.close(self._capacity)),
            changes=tuple(self._changes),
            changes_left_out=self._changes_left_out,
            stays=self._all_stays(cluster),
            hurt=tuple(one for _, _, one in sorted(self._hurt, reverse=True)),
            findings=(),
        )
        return findings(report)

    def _see_job(self, step: Step, before: JobRow | None, after: JobRow) -> None:
        ended, slice_ = self._attempts.see(step), self._open
        if isinstance(step.event, events.Claimed) and before is not None:
            self._claimed(step.at_ms, step.at_ms - before.since_ms, after.id)
        if slice_ is None:
            return
        if isinstance(step.event, events.Submitted):
            self._submitted += 1
        if isinstance(after.job, Queued) and not isinstance(before and before.job, Queued):
            slice_.arrived += 1
        if ended is not None:
            slice_.ended[ended.outcome] += 1
            self._attempt(ended, step)
        if isinstance(step.event, events.AttemptFailed | events.Failed):
            kind = step.event.error.kind.value
            self._failures[kind] += 1
            slice_.failures[kind] += 1
        elif isinstance(step.event, events.AttemptLost):
            slice_.failures[step.event.why.value] += 1
            self._lost += step.event.why is LostBecause.LEASE_RAN_OUT
        if has_ended(after.job):
            self._ended[status_of(after.job)] += 1
            self._remember(after, self._tolls.pop(after.id, _Toll()))

    def _claimed(self, at_ms: int, waited_ms: int, job_id: str) -> None:
        if self._open is not None:
            self._waits.add(waited_ms)
            self._open.waits.add(waited_ms)
            self._open.claimed += 1
            self._toll(job_id).waited_ms += waited_ms
        elif at_ms >= 2 * self._from_ms - self._to_ms:
            self._waits_before.add(waited_ms)

    def _attempt(self, ended: Attempt, step: Step) -> None:
        toll = self._toll(ended.job_id)
        toll.attempts += 1
        toll.outcome = ended.outcome
        if not isinstance(step.event, events.Completed):
            toll.wasted_ms += ended.ran_ms

    def _see_worker(self, row: WorkerRow, at_ms: int) -> None:
        if not row.worker.has_ended:
            self._started_ms.setdefault(row.name, at_ms)
            return
        started_ms = self._started_ms.pop(row.name, None)
        if started_ms is not None and at_ms >= self._from_ms and len(self._stays) < STAYS_MAX:
            from_ms = max(started_ms, self._from_ms)
            self._stays.append(Stay(row.name, from_ms, at_ms, row.worker.status))

    def _all_stays(self, cluster: Cluster) -> tuple[Stay, ...]:
        """With those of the workers that are there still."""
        there = (
            Stay(
                row.name,
                max(self._started_ms[row.name], self._from_ms),
                self._to_ms,
                row.worker.status,
            )
            for row in cluster.living()
        )
        return (*self._stays, *there)[:STAYS_MAX]

    def _toll(self, job_id: str) -> _Toll:
        return self._tolls.setdefault(job_id, _Toll())

    def _remember(self, row: JobRow, toll: _Toll) -> None:
        """Keep the jobs that lost most."""
        hurt = Hurt(
            job_id=row.id,
            queue=row.job.queue,
            model=row.job.model,
            status=status_of(row.job),
            submitted_ms=row.created_ms,
            waited_ms=toll.waited_ms,
            wasted_ms=toll.wasted_ms,
            attempts=toll.attempts,
            outcome=toll.outcome or "none",
        )
        if not any(hurt.severity):
            return
        keep = heappush if len(self._hurt) < HURT_MAX else heappushpop
        keep(self._hurt, (hurt.severity, row.id, hurt))

    def _count(self, row: JobRow | None, by: int) -> None:
        if row is not None:
            self._waiting += by * isinstance(row.job, Queued)
            self._running += by * isinstance(row.job, Running)

    def _change(self, at_ms: int, what: str) -> None:
        if len(self._changes) < CHANGES_MAX:
            self._changes.append(Change(at_ms, what))
        else:
            self._changes_left_out += 1

    def _slice_of(self, at_ms: int) -> _Open:
        """The slice of a moment; those before it are closed."""
        slice_ = self._open or _Open(self._from_ms, self._waiting, self._running)
        while at_ms - slice_.from_ms >= self._step_ms:
            self._slices.append(slice_.close(self._capacity))
            slice_ = _Open(slice_.from_ms + self._step_ms, self._waiting, self._running)
        return slice_


def percentiles(sketch: Sketch) -> Percentiles | None:
    """Those that a report shows; None if there were no waits."""
    p50, p95, p99 = (sketch.percentile(share) for share in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    return Percentiles(p50, p95, p99)


def _slots(row: WorkerRow) -> int:
    return row.worker.capacity if row.worker.status is WorkerStatus.STARTED else 0
