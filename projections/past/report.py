"""An incident, as it is reported: what the cluster did in a stretch of time, slice by slice."""

from typing import Final

from msgspec import Struct

from core.fleet import WorkerStatus

_WITHOUT_AN_ANSWER: Final = ("failed", "expired")


class Percentiles(Struct, frozen=True):
    """Of waits, in milliseconds."""

    p50: float
    p95: float
    p99: float


class Slice(Struct, frozen=True, kw_only=True):
    """A short time in it."""

    from_ms: int
    arrived: int  # Came into line: submitted, due, requeued, or taken back.
    claimed: int
    ended: dict[str, int]  # Attempts, by the event that ended them.
    failures: dict[str, int]  # By the kind of error, or why a worker's claim ended.
    waiting: int  # The most at once.
    running: int  # The most at once.
    capacity: int  # At its end.
    wait_ms: Percentiles | None  # Of those claimed in it.


class Change(Struct, frozen=True):
    """Something that happened to workers or queues."""

    at_ms: int
    what: str


class Stay(Struct, frozen=True):
    """A worker, for as long as it was there."""

    worker: str
    from_ms: int
    until_ms: int
    became: WorkerStatus  # What it was at the end of that time.


class Hurt(Struct, frozen=True, kw_only=True):
    """A job that lost time: in line, and in attempts that came to nothing."""

    job_id: str
    queue: str
    model: str
    status: str
    submitted_ms: int
    waited_ms: int
    wasted_ms: int
    attempts: int
    outcome: str  # How its last attempt ended, or what it waits for.

    @property
    def lost_ms(self) -> int:
        return self.waited_ms + self.wasted_ms

    @property
    def severity(self) -> tuple[bool, int]:
        """By which jobs are compared: no wait is worse than no answer."""
        return self.status in _WITHOUT_AN_ANSWER, self.lost_ms


class Report(Struct, frozen=True, kw_only=True):
    """What happened between two moments; times in milliseconds, by Redis's clock."""

    from_ms: int
    to_ms: int
    submitted: int
    ended: dict[str, int]  # Jobs, by how they ended.
    failures: dict[str, int]  # Attempts that failed and jobs given up, by the kind of error.
    lost: int  # Attempts taken back from workers whose lease ran out.
    wait_ms: Percentiles | None
    wait_before_ms: Percentiles | None  # In the time before, as long as this.
    slices: tuple[Slice, ...]
    changes: tuple[Change, ...]
    changes_left_out: int
    stays: tuple[Stay, ...]  # The first of them, in the order in which they ended.
    hurt: tuple[Hurt, ...]  # Those that failed or expired first, then by the time that they lost.
    findings: tuple[str, ...]  # What stands out, in words.
