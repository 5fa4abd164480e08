"""Discrete-event simulation: a workload played again, by any shifts of workers. Pure.

Claims are decided by the product's own policy (`core.claim_policy`, as `projections.past.line` applies it).
What is taken from the log: when jobs come, how long each attempt runs, how long a claim takes once slot
and job are there, delays between attempts, pauses, and when jobs are cancelled or expire in line.
"""

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from statistics import median_low

from core.keys import LaneName
from core.states import Lane
from projections.past.line import Line, Turns
from projections.past.workload import Arrival, Pause, Played, Shift, Visit, Waited, Workload


class _Worker:
    """A shift that goes on."""

    def __init__(self, shift: Shift, shards: int) -> None:
        self.shift = shift
        self.turns = Turns(shards)
        self.has: dict[_Job, None] = {}

    def may_end_a_job(self, at_ms: int) -> bool:
        return not self.shift.is_lost or at_ms <= self.shift.claims_until_ms

    def free_slots(self, at_ms: int) -> int:
        return self.shift.capacity - len(self.has) if at_ms <= self.shift.claims_until_ms else 0


class _Job:
    """A job that has come."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.visit_number = 0
        self.is_counted = not arrival.was_running
        self.in_line_ms = 0
        self.place: int | None = None  # None: it does not wait.
        self.claimed_ms = 0
        self.losses = 0  # Of this visit.
        self.claims = 0  # What is planned for a claim is void when another has come.

    @property
    def visit(self) -> Visit:
        return self.arrival.visits[self.visit_number]


class Simulation:
    """One play of a workload. `run` may be called once."""

    def __init__(self, workload: Workload, shifts: Iterable[Shift]) -> None:
        self._workload = workload
        self._shifts = list(shifts)
        self._shards = 1 + max((one.shard for one in workload.arrivals), default=0)
        self._line: Line[_Job] = Line(self._shards)
        self._crew: list[_Worker] = []
        self._paused: set[str] = set()
        self._ran_ms = _usual_runs(workload.arrivals)
        self._plan: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._now_ms = workload.from_ms
        self._waits: list[Waited] = []
        self._busy_ms = 0

    def run(self) -> Played:
        """Let it all happen; what came of it."""
        for shift in self._shifts:
            self._at(shift.from_ms, partial(self._begin_shift, shift))
        for pause in self._workload.pauses:
            self._at(pause.at_ms, partial(self._pause, pause))
        for arrival in sorted(self._workload.arrivals, key=_order):
            lane = arrival.visits[0].lane
            self._at(arrival.at_ms, partial(self._enter, _Job(arrival), lane))
        while self._plan and self._plan[0][0] <= self._workload.to_ms:
            self._now_ms = max(self._now_ms, self._plan[0][0])
            while self._plan and self._plan[0][0] <= self._now_ms:
                heappop(self._plan)[2]()
            self._claim()
        for worker in self._crew:
            for job in worker.has:
                self._busy_ms += max(0, self._workload.to_ms - job.claimed_ms)
        return Played(
            waits=self._waits,
            in_line=self._line.waiting,
            busy_ms=self._busy_ms,
            capacity_ms=sum(one.capacity * (one.until_ms - one.from_ms) for one in self._shifts),
        )

    def _at(self, at_ms: int, happen: Callable[[], None]) -> None:
        self._planned += 1
        heappush(self._plan, (at_ms, self._planned, happen))

    def _begin_shift(self, shift: Shift) -> None:
        worker = _Worker(shift, self._shards)
        self._crew.append(worker)
        if shift.until_ms < self._workload.to_ms:
            self._at(shift.until_ms, partial(self._end_shift, worker))

    def _end_shift(self, worker: _Worker) -> None:
        """What it has goes to the front of the line, but for what this loss is the end of."""
        self._crew.remove(worker)
        for job in worker.has:
            self._busy_ms += self._now_ms - job.claimed_ms
            job.claims += 1
            job.losses += 1
            if job.losses != job.visit.fatal_loss:
                self._enter(job, Lane.FRONT)

    def _pause(self, pause: Pause) -> None:
        (self._paused.add if pause.is_paused else self._paused.discard)(pause.queue)

    def _enter(self, job: _Job, lane: Lane) -> None:
        arrival = job.arrival
        name = LaneName(lane, arrival.queue, arrival.model)
        job.in_line_ms = min(self._now_ms, arrival.at_ms) if not job.claims else self._now_ms
        place = job.place = self._line.enter(arrival.shard, name, job.in_line_ms, job)
        if job.visit.leaves_ms is not None:
            leaves_ms = max(self._now_ms, job.visit.leaves_ms)
            self._at(leaves_ms, partial(self._leave, job, place))

    def _leave(self, job: _Job, place: int) -> None:
        if job.place == place:
            self._line.leave(place)
            job.place = None

    def _claim(self) -> None:
        """Let every worker that has a slot take what it can."""
        for worker in self._crew:
            if not self._line.waiting:
                return
            want = worker.free_slots(self._now_ms)
            if want:
                shift = worker.shift
                taken = self._line.claim(
                    shift.queues, shift.models, want, worker.turns, self._paused
                )
                for job in taken:
                    self._begin(worker, job)
        if self._crew:  # Who is first to claim is nobody's privilege.
            self._crew.append(self._crew.pop(0))

    def _begin(self, worker: _Worker, job: _Job) -> None:
        visit = job.visit
        job.claims += 1
        job.place = None
        job.claimed_ms = self._now_ms + visit.reaction_ms
        worker.has[job] = None
        if job.is_counted:
            waited_ms = job.claimed_ms - job.in_line_ms
            self._waits.append(Waited(waited_ms, job.arrival.queue, job.arrival.priority))
        job.is_counted = True
        ran_ms = self._ran_ms(job.arrival.model) if visit.ran_ms is None else visit.ran_ms
        self._at(job.claimed_ms + ran_ms, partial(self._end, worker, job, job.claims))

    def _end(self, worker: _Worker, job: _Job, claim: int) -> None:
        if job.claims != claim or not worker.may_end_a_job(self._now_ms):
            return
        del worker.has[job]
        self._busy_ms += self._now_ms - job.claimed_ms
        if job.visit_number + 1 < len(job.arrival.visits):
            job.visit_number += 1
            job.losses = 0
            visit = job.visit
            self._at(self._now_ms + visit.delay_ms, partial(self._enter, job, visit.lane))


def crew_of(
    workload: Workload, workers: int, concurrency: int, models: Iterable[str]
) -> list[Shift]:
    """So many workers that serve every queue, there all the while."""
    return [
        Shift(
            name=f"worker {number}",
            capacity=concurrency,
            queues=(),
            models=tuple(models),
            from_ms=workload.from_ms,
            claims_until_ms=workload.to_ms,
            until_ms=workload.to_ms,
        )
        for number in range(1, workers + 1)
    ]


def _order(arrival: Arrival) -> tuple[bool, int]:
    return not arrival.was_running, arrival.at_ms


def _usual_runs(arrivals: Iterable[Arrival]) -> Callable[[str], int]:
    """How long an attempt of a model takes, for jobs that never ran: the median."""
    runs: dict[str, list[int]] = {}
    for arrival in arrivals:
        known = [visit.ran_ms for visit in arrival.visits if visit.ran_ms is not None]
        runs.setdefault(arrival.model, []).extend(known)
    medians = {model: median_low(known) for model, known in runs.items() if known}
    of_all = median_low(medians.values()) if medians else 0
    return lambda model: medians.get(model, of_all)
