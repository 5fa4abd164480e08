"""The transition table of a job: `decide` says what may happen, `evolve` what it means.

Both are pure. `decide` refuses with a reason; `evolve` never refuses, because a fact cannot be
argued with. The worker that holds a claim proves it with the claim number: the fence that keeps a
worker whose job was taken over from writing anything.
"""

from collections.abc import Iterable
from functools import cache, lru_cache, reduce
from typing import Any, Final, assert_never

from msgspec import structs

from core import events, states
from core.commands import (
    Cancel,
    Claim,
    Command,
    Complete,
    ConfirmCancel,
    Enqueue,
    Expire,
    Fail,
    Forget,
    Lose,
    RecoveryPolicy,
    Requeue,
    Submit,
)
from core.events import ErrorKind, JobError, JobEvent, LostBecause, Priority
from core.retry import backoff_ms, is_worth_retrying
from core.states import Job, Lane, Queued, Running, Scheduled

# Where a job waits that was not taken back from a worker.
_LANES: Final = {priority: Lane(priority.value) for priority in Priority}


class CommandRefused(Exception):
    """The job's state does not allow the command. `status` is that state, None for no job at all."""

    def __init__(self, job: Job | None, command: Command) -> None:
        self.status = None if job is None else states.status_of(job)
        self.command = type(command).__name__.lower()
        is_in = "does not exist" if job is None else f"is {self.status}"
        if isinstance(job, states.Ended) and job.forgotten:
            is_in += ", and its request was forgotten"
        super().__init__(f"cannot {self.command}: the job {is_in}")


def decide(job: Job | None, command: Command) -> tuple[JobEvent, ...]:
    """The events that `command` leads to; none if what it wants is so already.

    Raises CommandRefused if the job's state does not allow it, or if the command comes from a worker
    whose claim is not the current one.
    """
    match job, command:
        case None, Submit(submitted):
            return (submitted,)
        case Scheduled(), Enqueue():
            return (events.Enqueued(),)
        case Queued(), Claim(worker):
            return (events.Claimed(claim=job.claims + 1, attempt=job.attempts + 1, worker=worker),)
        case Running(), Complete(claim) if claim == job.claims:
            return (
                events.Completed(
                    claim=claim,
                    attempt=job.attempts + 1,
                    result=command.result,
                    usage=command.usage,
                    timings=command.timings,
                    chunks=command.chunks,
                ),
            )
        case Running(), Fail(claim, error, jitter) if claim == job.claims:
            return _after_error(job, error, jitter)
        case Running(), Lose(claim) if claim == job.claims:
            return _after_loss(job, command)
        case Scheduled() | Queued(), Cancel(by, reason):
            return (events.Cancelled(by=by, reason=reason),)
        case Running(cancel_by=None), Cancel(by, reason):
            return (events.CancelRequested(by=by, reason=reason),)
        case Running(), Cancel():
            return ()
        case Running(cancel_by=str()), ConfirmCancel(claim) if claim == job.claims:
            return (_cancelled(job),)
        case Scheduled(deadline_ms=int(ms)) | Queued(deadline_ms=int(ms)), Expire():
            return (events.Expired(deadline_ms=ms),)
        case states.Completed() | states.Failed() | states.Cancelled() | states.Expired(), (
            Requeue() | Forget()
        ):
            return _after_its_end(job, command)
        case _:
            raise CommandRefused(job, command)


def _after_its_end(job: Job, command: Requeue | Forget) -> tuple[JobEvent, ...]:
    match job, command:
        case states.Ended(forgotten=True), Forget():
            return ()
        case _, Forget(by, reason):
            return (events.Redacted(by=by, reason=reason),)
        case states.Ended(forgotten=False), Requeue(by) if not isinstance(job, states.Completed):
            return (events.Requeued(by=by),)
        case _:
            raise CommandRefused(job, command)


def _after_error(job: Running, error: JobError, jitter: float) -> tuple[JobEvent, ...]:
    attempt = job.attempts + 1
    if job.cancel_by is not None:
        return (_cancelled(job),)
    if attempt < job.attempts_max and is_worth_retrying(error.kind):
        delay_ms = backoff_ms(attempt, jitter, error.retry_after_ms)
        return (
            events.AttemptFailed(claim=job.claims, attempt=attempt, error=error, delay_ms=delay_ms),
        )
    return (events.Failed(error=error, attempts=attempt, deliveries=len(job.lost_workers)),)


def _after_loss(job: Running, command: Lose) -> tuple[JobEvent, ...]:
    """Crash is not failure: a loss costs a delivery, and only a bounded number of those."""
    lost = events.AttemptLost(claim=job.claims, worker=job.worker, why=command.why)
    if job.cancel_by is not None:
        return (lost, _cancelled(job))
    if command.why is not LostBecause.LEASE_RAN_OUT:
        return (lost,)
    workers = (*job.lost_workers, job.worker)
    if command.policy is RecoveryPolicy.FAIL:
        error = JobError(
            ErrorKind.WORKER_LOST,
            f"worker {job.worker} was lost, and the recovery policy is to fail",
        )
    elif len(workers) >= command.deliveries_max:
        named = ", ".join(workers)
        error = JobError(ErrorKind.POISONED, f"given up after {len(workers)} lost workers: {named}")
    else:
        return (lost,)
    failed = events.Failed(
        error=error, attempts=job.attempts, deliveries=len(workers), lost_workers=workers
    )
    return (lost, failed)


def _cancelled(job: Running) -> events.Cancelled:
    return events.Cancelled(by=job.cancel_by or "unknown", reason=job.cancel_reason)


def evolve(job: Job | None, event: JobEvent) -> Job:
    """The job after one more event. Total: it never refuses what has happened."""
    match event:  # The most frequent first: each that does not match takes its time.
        case events.Submitted():
            return _submitted(event)
        case events.Claimed():
            return _claimed(job, event.claim, event.worker)
        case events.Completed():
            return _become(job, states.Completed)
        case events.Enqueued():
            return _become(job, Queued, lane=_LANES[_known(job).priority])
        case events.AttemptFailed(attempt=attempt):
            return _become(job, Scheduled, attempts=attempt)
        case events.AttemptLost(worker=worker, why=why):
            workers = _known(job).lost_workers
            if why is LostBecause.LEASE_RAN_OUT:
                workers = (*workers, worker)
            return _become(job, Queued, lane=Lane.FRONT, lost_workers=workers)
        case events.Failed(attempts=attempts):
            return _become(job, states.Failed, attempts=attempts)
        case events.CancelRequested():
            return _cancel_requested(job, event)
        case events.Cancelled():
            return _become(job, states.Cancelled)
        case events.Expired():
            return _become(job, states.Expired)
        case events.Requeued():
            known = _known(job)
            lane = _LANES[known.priority]
            born = known.version + 1
            return _become(job, Queued, lane=lane, born=born, attempts=0, lost_workers=())
        case events.Redacted():
            return _redacted(job)
        case _:
            assert_never(event)


def _submitted(event: events.Submitted) -> Job:
    return _first(
        event.delay_ms > 0,
        event.queue,
        event.model,
        event.kind,
        event.priority,
        event.tenant,
        event.key,
        event.timeout_ms,
        event.attempts_max,
        event.deadline_ms,
    )


@lru_cache(maxsize=10_000)
def _first(
    is_later: bool,
    queue: str,
    model: str,
    kind: events.Kind,
    priority: Priority,
    tenant: str,
    key: str | None,
    timeout_ms: int,
    attempts_max: int,
    deadline_ms: int | None,
) -> Job:
    known: dict[str, Any] = {
        "version": 1,
        "queue": queue,
        "model": model,
        "kind": kind,
        "priority": priority,
        "tenant": tenant,
        "key": key,
        "timeout_ms": timeout_ms,
        "attempts_max": attempts_max,
        "deadline_ms": deadline_ms,
    }
    return Scheduled(**known) if is_later else Queued(**known, lane=_LANES[priority])


@lru_cache(maxsize=10_000)
def _claimed(job: Job | None, claim: int, worker: str) -> Job:
    lane = job.lane if isinstance(job, Queued) else Lane.NORMAL
    claimed = _known(job).version + 1
    return _become(job, Running, claims=claim, claimed=claimed, worker=worker, lane=lane)


def _cancel_requested(job: Job | None, event: events.CancelRequested) -> Job:
    if not isinstance(job, Running):
        return _become(job, type(_known(job)))
    return _become(job, Running, cancel_by=event.by, cancel_reason=event.reason)


def _redacted(job: Job | None) -> Job:
    known = _known(job)
    if not isinstance(known, states.Ended):
        return _become(known, type(known))
    return _become(known, type(known), forgotten=True)


def fold(history: Iterable[JobEvent], job: Job | None = None) -> Job | None:
    """The job after all of `history`."""
    return reduce(evolve, history, job)


@lru_cache(maxsize=10_000)  # Jobs of one kind are many, and what they become is all the same.
def _become(job: Job | None, cls: type[Job], **changes: Any) -> Job:
    """The next version as a `cls`: what both states have is kept, but for `changes`."""
    known = _known(job)
    values = structs.asdict(known)
    for name in _dropped(type(known), cls):
        del values[name]
    values.update(changes, version=known.version + 1)
    return cls(**values)


@cache
def _dropped(before: type[Job], after: type[Job]) -> tuple[str, ...]:
    """The fields that the next state does not have."""
    return tuple(name for name in before.__struct_fields__ if name not in after.__struct_fields__)


def _known(job: Job | None) -> Job:
    if job is None:
        raise ValueError("the history does not begin with `submitted`")
    return job
