"""What the log says that a subject's head, lane entry and timers should be. Pure."""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from msgspec import Struct

from core.effects import Timer
from core.head import changes, milliseconds_of
from core.keys import LaneName, count_fields
from core.states import Queued, Running, Scheduled
from core.upcast import stamp
from projections.rows import JobRow, QueueRow, Row, WorkerRow


class Derived(Struct):
    """One subject, as it should be. Texts are as Redis has them."""

    head: dict[bytes, bytes]  # All but the lane entry.
    timers: dict[str, int]
    lane: LaneName | None  # Where it has an entry.
    worker: str | None  # For whom that is pending; None: perhaps for somebody.
    ended_ms: int | None

    @property
    def fields(self) -> dict[str, str]:
        """The head as text."""
        return {name.decode(): value.decode() for name, value in self.head.items()}


NOTHING = Derived({}, {}, None, None, None)


def derived(row: Row, log_ids: Sequence[str]) -> Derived:
    """What should be there of a subject; `log_ids` are those of its versions."""
    state = row.job if isinstance(row, JobRow) else _state(row)
    head = _head_of(state) | dict(
        zip(_versions(len(log_ids)), map(str.encode, log_ids), strict=True)
    )
    timers: dict[str, int] = {}
    lane = worker = None
    if isinstance(row, JobRow):
        timers = _timers(row, log_ids)
        for timer, due_ms in timers.items():
            head[f"{timer}_at".encode()] = str(due_ms).encode()
        job = row.job
        if type(job) is Queued or type(job) is Running:
            lane = LaneName(job.lane, job.queue, job.model)
        if type(job) is Running:
            worker = job.worker
    return Derived(head, timers, lane, worker, row.ended_ms)


@lru_cache(maxsize=10_000)
def _head_of(state: Struct) -> dict[bytes, bytes]:
    """A state as a head has it. Jobs of one kind that had one life each are many, and all the same."""
    flat, _ = changes(None, state)
    pairs = [*zip(flat[::2], flat[1::2], strict=True), *stamp().items()]
    return {str(name).encode(): str(value).encode() for name, value in pairs}


@cache
def _versions(count: int) -> tuple[bytes, ...]:
    """The fields of so many versions."""
    return tuple(str(version).encode() for version in range(1, count + 1))


def _state(row: WorkerRow | QueueRow) -> Struct:
    return row.worker if isinstance(row, WorkerRow) else row.queue


def _timers(row: JobRow, log_ids: Sequence[str]) -> dict[str, int]:
    job, timers = row.job, {}
    if row.due_ms is not None and isinstance(job, Scheduled):
        timers[str(Timer.DUE)] = row.due_ms
    if job.deadline_ms is not None and isinstance(job, Scheduled | Queued):
        timers[str(Timer.DEADLINE)] = milliseconds_of(log_ids[job.born - 1]) + job.deadline_ms
    return timers


def counted(rows: Iterable[Row]) -> Tally[str]:
    """How many jobs each queue has waiting, scheduled and running, and each API key in flight."""
    counts: Tally[str] = Tally()
    for row in rows:
        if isinstance(row, JobRow):
            counts.update(count_fields(row.job))
    return counts


def facts(rows: dict[str, Row]) -> list[str]:
    """The workers and queues among all subjects."""
    return [subject for subject in rows if ":" in subject]


def lane_names(rows: Iterable[Row]) -> set[str]:
    """Every lane that may be there because of these jobs."""
    served = {(row.job.queue, row.job.model) for row in rows if isinstance(row, JobRow)}
    return {str(LaneName(lane, *pair)) for pair in served for lane in _LANES}


_LANES = tuple(type(LaneName.parse("front:q:m").lane))
