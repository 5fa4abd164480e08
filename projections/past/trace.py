"""A stretch of the log as a trace that Perfetto and chrome://tracing open. Pure.

The format is Google's Trace Event Format
(https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU), in its JSON Array
flavour: a process for each worker with a thread for each of its slots, one for each queue, and counters.
Times are in microseconds.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, Final

from core import events
from core.fleet import WorkerStatus
from core.log import tag_of
from core.states import Queued, Running
from projections.past.attempts import Attempt, Attempts
from projections.past.cluster import Cluster, Step
from projections.rows import JobRow, QueueRow, WorkerRow

TraceEvent = dict[str, Any]

_QUEUES: Final = 1  # Process ids: the queues, the cluster, then the workers.
_CLUSTER: Final = 2
_FIRST_WORKER: Final = 10


class Slots:
    """Numbers for what goes on at the same time: the smallest that is free."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 1
        self._taken: dict[str, int] = {}

    def take(self, name: str) -> int:
        if name not in self._taken:
            if not self._free:
                heappush(self._free, self._next)
                self._next += 1
            self._taken[name] = heappop(self._free)
        return self._taken[name]

    def give(self, name: str) -> int:
        """The number that a name had, which is free from here on."""
        slot = self.take(name)
        heappush(self._free, self._taken.pop(name))
        return slot


class Tracer:
    """Makes trace events of the steps of a log from `from_ms` on."""

    def __init__(self, from_ms: int) -> None:
        self._from_us = from_ms * 1_000
        self._attempts = Attempts()
        self._workers: dict[str, int] = {}  # Process ids.
        self._slots: dict[str, Slots] = {}
        self._queues = Slots()
        self._known: set[tuple[int, int]] = set()  # Threads that have a name.
        self._waiting: dict[str, int] = {}
        self._running = self._capacity = 0

    def begin(self, cluster: Cluster) -> Iterator[TraceEvent]:
        """What is known when the trace begins."""
        yield _name("process_name", _QUEUES, 0, "queues")
        yield _name("process_name", _CLUSTER, 0, "cluster")
        for row in cluster.living():
            yield from self._process(row.name)
            self._capacity += _capacity(row)
        for job in cluster.open.values():
            self._count(job, +1)
            if isinstance(job.job, Running):
                self._slots.setdefault(job.job.worker, Slots()).take(job.id)
                self._attempts.resume(job)
        yield from self._counters(self._from_us, sorted(self._waiting))

    def see(self, step: Step) -> Iterator[TraceEvent]:
        """The events of one step."""
        at_us = step.at_ms * 1_000
        match step.after:
            case JobRow() as after:
                before = step.before if isinstance(step.before, JobRow) else None
                yield from self._job(step, before, after, at_us)
            case WorkerRow() as after:
                known = step.before if isinstance(step.before, WorkerRow) else None
                self._capacity += _capacity(after) - (_capacity(known) if known else 0)
                yield from self._process(after.name)
                what = f"{after.name} {after.worker.status.value}"
                yield _instant(what, self._workers[after.name], at_us)
                yield from self._counters(at_us, [])
            case QueueRow() as after:
                yield _instant(f"{after.name}: {tag_of(step.event)}", _QUEUES, at_us)

    def end(self, cluster: Cluster, until_ms: int) -> Iterator[TraceEvent]:
        """The attempts that were not over."""
        rows = list(cluster.open.values())
        for attempt in self._attempts.going_on(rows, until_ms):
            yield from self._slice(attempt)

    def _job(
        self, step: Step, before: JobRow | None, after: JobRow, at_us: int
    ) -> Iterator[TraceEvent]:
        if before is not None:
            self._count(before, -1)
        self._count(after, +1)
        if isinstance(step.event, events.Submitted):
            yield from self._submitted(after, at_us)
        ended = self._attempts.see(step)
        if ended is not None:
            yield from self._slice(ended)
        if isinstance(step.event, events.Claimed):
            job = after.job
            assert isinstance(job, Running), "that is what a claim leads to"
            yield from self._process(job.worker)
            self._slots[job.worker].take(after.id)
        yield from self._counters(at_us, [after.job.queue])

    def _submitted(self, row: JobRow, at_us: int) -> Iterator[TraceEvent]:
        thread = self._queues.take(row.job.queue)
        yield from self._thread(_QUEUES, thread, row.job.queue)
        at = {"pid": _QUEUES, "tid": thread, "ts": at_us}
        yield {
            "ph": "X",
            "name": "submitted",
            "cat": "job",
            "dur": 1,
            **at,
            "args": {"job": row.id},
        }
        yield {"ph": "s", "name": "job", "cat": "job", "id": row.id, **at}

    def _slice(self, attempt: Attempt) -> Iterator[TraceEvent]:
        process = self._workers.get(attempt.worker)
        if process is None:
            yield from self._process(attempt.worker)
            process = self._workers[attempt.worker]
        slot = self._slots[attempt.worker].give(attempt.job_id)
        yield from self._thread(process, slot, f"slot {slot}")
        began_us = max(self._from_us, attempt.claimed_ms * 1_000)
        at = {"pid": process, "tid": slot, "ts": began_us}
        args = {
            "job": attempt.job_id,
            "queue": attempt.queue,
            "outcome": attempt.outcome,
            "claim": attempt.claim,
            "waited_ms": attempt.waited_ms,
        } | ({"error": attempt.error.value} if attempt.error else {})
        duration_us = max(1, attempt.ended_ms * 1_000 - began_us)
        yield {
            "ph": "X",
            "name": attempt.model,
            "cat": "attempt",
            "dur": duration_us,
            **at,
            "args": args,
        }
        if attempt.claim == 1:
            yield {"ph": "f", "bp": "e", "name": "job", "cat": "job", "id": attempt.job_id, **at}

    def _process(self, worker: str) -> Iterator[TraceEvent]:
        if worker not in self._workers:
            self._workers[worker] = _FIRST_WORKER + len(self._workers)
            self._slots.setdefault(worker, Slots())
            yield _name("process_name", self._workers[worker], 0, f"worker {worker}")

    def _thread(self, process: int, thread: int, name: str) -> Iterator[TraceEvent]:
        if (process, thread) not in self._known:
            self._known.add((process, thread))
            yield _name("thread_name", process, thread, name)

    def _count(self, row: JobRow, by: int) -> None:
        if isinstance(row.job, Queued):
            self._waiting[row.job.queue] = self._waiting.get(row.job.queue, 0) + by
        elif isinstance(row.job, Running):
            self._running += by

    def _counters(self, at_us: int, queues: list[str]) -> Iterator[TraceEvent]:
        for queue in queues:
            waiting = {"jobs": self._waiting.get(queue, 0)}
            yield _counter(f"waiting in {queue}", _QUEUES, at_us, waiting)
        slots = {"running": self._running, "capacity": self._capacity}
        yield _counter("slots", _CLUSTER, at_us, slots)


def _capacity(row: WorkerRow) -> int:
    return row.worker.capacity if row.worker.status is WorkerStatus.STARTED else 0


def _name(what: str, process: int, thread: int, name: str) -> TraceEvent:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _instant(name: str, process: int, at_us: int) -> TraceEvent:
    return {"ph": "i", "name": name, "s": "p", "pid": process, "tid": 0, "ts": at_us}


def _counter(name: str, process: int, at_us: int, args: dict[str, int]) -> TraceEvent:
    return {"ph": "C", "name": name, "pid": process, "tid": 0, "ts": at_us, "args": args}
