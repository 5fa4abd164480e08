"""What somebody wants of a job. `core.job.decide` says whether it may be, and which events follow."""

from enum import StrEnum

from msgspec import Raw, Struct

from core.events import Count, JobError, LostBecause, Ordinal, Submitted, Timings, Usage


class RecoveryPolicy(StrEnum):
    """What becomes of a job whose worker died."""

    REQUEUE = "requeue"
    FAIL = "fail"


class Submit(Struct, frozen=True):
    """A client wants a job. Nothing of it is open to decision, so it carries the event itself."""

    submitted: Submitted


class Enqueue(Struct, frozen=True):
    """A scheduled job is due."""


class Claim(Struct, frozen=True):
    """A worker wants to run a queued job."""

    worker: str


class Complete(Struct, frozen=True):
    """The worker that holds claim `claim` has the answer."""

    claim: Ordinal
    result: Raw
    timings: Timings
    usage: Usage | None = None
    chunks: Count = 0


class Fail(Struct, frozen=True):
    """The worker that holds claim `claim` got an error; `jitter` in 0..1 spreads the retries."""

    claim: Ordinal
    error: JobError
    jitter: float


class Lose(Struct, frozen=True):
    """Claim `claim` is over without an outcome: its worker drained, or its lease ran out."""

    claim: Ordinal
    why: LostBecause
    deliveries_max: Ordinal
    policy: RecoveryPolicy = RecoveryPolicy.REQUEUE


class Cancel(Struct, frozen=True):
    """Somebody does not want the job any more."""

    by: str
    reason: str | None = None


class Forget(Struct, frozen=True):
    """Nobody is to know any more what was written in the job."""

    by: str
    reason: str | None = None


class ConfirmCancel(Struct, frozen=True):
    """The worker that holds claim `claim` has stopped, as was requested."""

    claim: Ordinal


class Expire(Struct, frozen=True):
    """The deadline has passed, by Redis's clock."""


class Requeue(Struct, frozen=True):
    """An operator wants an ended job to live again."""

    by: str


Command = (
    Submit
    | Enqueue
    | Claim
    | Complete
    | Fail
    | Lose
    | Cancel
    | ConfirmCancel
    | Expire
    | Requeue
    | Forget
)
