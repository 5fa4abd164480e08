"""What a job is, after some of its events: one type per state, so that nonsense cannot be built.

`scheduled -> queued -> running -> completed | failed | cancelled | expired`; `core.job` says which
event leads where. A state is all that `decide` needs to know; requests, results and errors stay in
their events.
"""

from enum import StrEnum
from functools import cache

from msgspec import Struct

from core.events import Count, Kind, Ordinal, Priority


class Lane(StrEnum):
    """Where a queued job waits, most urgent first. `front` holds what was taken back from a worker."""

    FRONT = "front"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class _State(
    Struct, frozen=True, kw_only=True, tag_field="status", omit_defaults=True, cache_hash=True
):
    """What is known of a job in every state."""

    version: Ordinal  # How many events it has.
    queue: str
    model: str
    kind: Kind = Kind.CHAT
    priority: Priority = Priority.NORMAL
    tenant: str
    key: str | None = None  # The API key whose job it is.
    timeout_ms: Ordinal
    attempts_max: Ordinal
    deadline_ms: Ordinal | None = None  # To start within, counted from version `born`.
    born: Ordinal = 1  # The version that began this life: `submitted`, or the last `requeued`.
    claims: Count = 0  # The fence: every claim ever, in all lives.
    claimed: Count = 0  # The version of the last claim.
    attempts: Count = 0  # Failed in this life.
    lost_workers: tuple[str, ...] = ()  # Whose lease ran out with this job, in this life.


class Scheduled(_State, tag="scheduled", frozen=True, kw_only=True):
    """Not yet due. A timer moves it on."""


class Queued(_State, tag="queued", frozen=True, kw_only=True):
    """Waiting in a lane. A worker's claim moves it on, or its deadline."""

    lane: Lane


class Running(_State, tag="running", frozen=True, kw_only=True):
    """Claimed. Its worker moves it on, or whoever finds that the lease ran out."""

    lane: Lane  # Its entry stays there, pending, until the claim ends.
    worker: str
    cancel_by: str | None = None  # Set once somebody asked for it.
    cancel_reason: str | None = None


class Ended(_State, frozen=True, kw_only=True):
    """What is known besides of a job that has ended; the states that follow are all there are of it."""

    forgotten: bool = False  # Its request and result are gone, so nothing can begin it anew.

    @property
    def ended(self) -> int:
        """The version that ended it."""
        return self.version - self.forgotten


class Completed(Ended, tag="completed", frozen=True, kw_only=True):
    """Ended well; final."""


class Failed(Ended, tag="failed", frozen=True, kw_only=True):
    """Ended badly; an operator may requeue it."""


class Cancelled(Ended, tag="cancelled", frozen=True, kw_only=True):
    """Ended because somebody asked; an operator may requeue it."""


class Expired(Ended, tag="expired", frozen=True, kw_only=True):
    """Ended because it did not start in time; an operator may requeue it."""


Job = Scheduled | Queued | Running | Completed | Failed | Cancelled | Expired

STATUSES: tuple[str, ...] = (
    "scheduled",
    "queued",
    "running",
    "completed",
    "failed",
    "cancelled",
    "expired",
)


def status_of(job: Job) -> str:
    """The state's name on the wire."""
    return _tag(type(job))


@cache
def _tag(kind: type[Job]) -> str:
    return str(kind.__struct_config__.tag)


def has_ended(job: Job) -> bool:
    """Say whether the job's life is over; only a requeue starts another one."""
    return isinstance(job, Ended)
