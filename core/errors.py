"""The tree of errors that the store raises.

RespoolError
├── UnknownJob              there is no such job
├── Conflict                the job has moved on; carries the newer state
├── NotOwner                the claim, or the lane entry, is another worker's now
├── DuplicateKey            the idempotency key has a job already; carries it
├── OverLimit               a submission would be one too many; carries what is left to its API key
│   ├── QueueFull           as many jobs wait (or are scheduled) as the queue takes
│   ├── KeyBusy             as many jobs of the API key have not ended as it may have
│   └── RateLimited         the API key has used up its requests or tokens of the minute
└── StoreError
    ├── StoreUnavailable    Redis does not answer, or will not do so just now
    │   └── NotDurable      it was written, but not confirmed to be as durable as DURABILITY asks
    ├── StoreDenied         Redis refuses the user, the password, or a command to that user
    ├── StoreFull           Redis is nearly out of memory: no new jobs, but completions pass
    ├── StoreNotReady       the migrations were not applied, or are those of another release
    ├── ArchiveError        an archive lacks what it should have, or has it altered (`core.archive`)
    ├── FromTheFuture       something was written by a newer release than this one
    └── Unreadable          something stored is not as any release wrote it

`core.job.CommandRefused` is the domain's own.
"""

from core.rates import FREE, Level, Levels
from core.states import Job


class Mendable(Exception):
    """What whoever runs a command can mend: the command ends with its message, and no stack trace."""


class RespoolError(Exception):
    """Everything that this package raises on purpose."""


class UnknownJob(RespoolError):
    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id}")
        self.job_id = job_id


class Conflict(RespoolError):
    """Nothing was written: the job is at another version than the append expected."""

    def __init__(self, job_id: str, newer: Job | None) -> None:
        super().__init__(f"job {job_id} has moved on")
        self.newer = newer


class NotOwner(RespoolError):
    """Nothing was written: the work was taken over."""


class DuplicateKey(RespoolError):
    """Nothing was written: the idempotency key belongs to `job_id`."""

    def __init__(self, job_id: str, fingerprint: str) -> None:
        super().__init__(f"the idempotency key was used for job {job_id}")
        self.job_id = job_id
        self.fingerprint = fingerprint
        self.left = FREE  # Of what the API key may ask for.


class OverLimit(RespoolError):
    """Nothing was written, and nothing taken: the submission would be one too many."""

    def __init__(self, message: str, left: Levels) -> None:
        super().__init__(message)
        self.left = left


class QueueFull(OverLimit):
    """The queue takes no more. Depth and limit are those of one shard."""

    def __init__(
        self, queue: str, depth: int, limit: int, shards: int, left: Levels, *, is_scheduled: bool
    ) -> None:
        many = f"{depth} jobs are scheduled for it" if is_scheduled else f"{depth} jobs wait"
        super().__init__(
            f"queue {queue!r} is full: {many}, and it takes {limit}{_on_each(shards)}", left
        )
        self.queue = queue
        self.depth = depth
        self.limit = limit
        self.is_scheduled = is_scheduled


class KeyBusy(OverLimit):
    """The API key has as many jobs in flight as it may have. Both are those of one shard."""

    def __init__(self, in_flight: int, limit: int, shards: int, left: Levels) -> None:
        many = f"{in_flight} jobs of this API key have not ended"
        super().__init__(f"{many}, and it may have {limit} in flight{_on_each(shards)}", left)
        self.in_flight = in_flight
        self.limit = limit


class RateLimited(OverLimit):
    """The API key has used up what it has of a minute's requests, or of its tokens."""

    def __init__(self, which: str, level: Level, left: Levels) -> None:
        super().__init__(f"this API key may have {level.limit} {which} a minute", left)
        self.which = which
        self.level = level


def _on_each(shards: int) -> str:
    return f" on each of {shards} shards" if shards > 1 else ""


class StoreError(RespoolError, Mendable):
    """The store cannot do it, whatever the job."""


class StoreUnavailable(StoreError):
    """Redis did not answer in time. A write may or may not have happened."""


class NotDurable(StoreUnavailable):
    """It was written, but a power cut or a fail-over may take it away again, or has."""


class StoreDenied(StoreError):
    """Redis refuses who we are: REDIS_URL, or the user's rights, are to be mended."""


class StoreFull(StoreError):
    """Redis is so full that it takes no new jobs. Nothing was written."""


class StoreNotReady(StoreError):
    """The store lacks what this release needs; `respool migrate` mends it."""


class FromTheFuture(StoreError):
    """Something was stored by a newer release; this one would drop what it does not know."""


class Unreadable(StoreError, ValueError):
    """Something stored is damaged, or was put there by somebody else."""
