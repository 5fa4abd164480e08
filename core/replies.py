"""What an append answered: the ids of its log entries, or why it was refused."""

from typing import Any

from core.access import KeyLimits
from core.appender import Record
from core.errors import (
    Conflict,
    DuplicateKey,
    KeyBusy,
    NotOwner,
    QueueFull,
    RateLimited,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from core.head import head_of
from core.keys import in_flight_field
from core.rates import FREE, TOKENS, Levels, levels
from core.redis import is_transient
from core.states import Job, Scheduled
from core.upcast import newer_than_us


def raise_if_over(record: Record, job: Job, reply: list[Any], left: Levels, shards: int) -> None:
    """Raises QueueFull, KeyBusy or RateLimited if that is why a submission was refused."""
    match reply:
        case [b"refused", b"full", [field, counted], _]:
            name, depth = field.decode(), int(counted)
            limit = dict(record.limits)[name]
            if job.key is not None and name == in_flight_field(job.key):
                raise KeyBusy(depth, limit, shards, left)
            is_scheduled = isinstance(job, Scheduled)
            raise QueueFull(job.queue, depth, limit, shards, left, is_scheduled=is_scheduled)
        case [b"refused", b"lacking", name, _]:
            level = left.tokens if name.decode() == TOKENS else left.requests
            assert level is not None, "it is not held to what it lacks"
            raise RateLimited(name.decode(), level, left)


def levels_in(record: Record, limits: KeyLimits, reply: list[Any], shards: int) -> Levels:
    """What is left to the API key that a submission names."""
    match reply:
        case [b"ok", lacks, *_] | [b"refused", _, _, lacks] if lacks and record.take is not None:
            return levels(limits, shards, lacks)
        case _:
            return FREE


def log_ids_in(subject: str, reply: list[Any]) -> tuple[str, ...]:
    """The log ids in an append's reply; its refusals raised."""
    match reply:
        case [b"ok", _, *ids]:
            return tuple(log_id.decode() for log_id in ids)
        case [b"conflict", flat]:
            is_job = ":" not in subject
            newer = head_of(flat) if is_job else None
            raise Conflict(subject, newer.job if newer else None)
        case [b"refused", b"duplicate", taken, _]:
            raise DuplicateKey(*taken_in(taken))
        case [b"refused", b"not_owner", *_]:
            raise NotOwner(f"{subject} was taken over")
        case [b"refused", b"newer_schema", schema, _]:
            raise newer_than_us(f"job {subject}" if ":" not in subject else subject, int(schema))
        case [b"refused", b"out_of_memory", percent, _]:
            raise StoreFull(f"Redis uses {percent.decode()} % of its memory: no new jobs")
        case [b"refused", b"error", bytes() as text, _]:
            error = StoreUnavailable if is_transient(text.decode()) else StoreError
            raise error(f"{subject} could not be written: {text.decode()}")
        case _:
            raise StoreError(f"{subject} could not be written: {reply!r}")


def taken_in(stored: bytes) -> tuple[str, str]:
    """What is kept under an idempotency key: the job, and its request's fingerprint."""
    job_id, _, fingerprint = stored.decode().partition(" ")
    return job_id, fingerprint
