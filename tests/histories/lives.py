"""The lives that golden histories are recorded of, each named by its function.

    python -m tests.histories.record

records those that have no file yet. A life is never changed once it is recorded; new ones are added.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Raw

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
)
from core.events import (
    ErrorKind,
    Gpu,
    JobError,
    Kind,
    LostBecause,
    Priority,
    Timings,
    Usage,
    WorkerDraining,
    WorkerLost,
    WorkerStarted,
    WorkerStopped,
)
from core.fleet import queue_subject, worker_subject
from core.queues import Queues
from core.retry import is_worth_retrying
from core.roster import Roster
from core.store import EventStore
from tests.given import a_job

Life = Callable[[EventStore], Awaitable[str]]  # Lives on a new store; the subject.

DEADLINE_MS: Final = 3_600_000
ANSWER: Final = Raw(
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"\xc3\xa9h"}}]}'
)


def complete(claim: int) -> Complete:
    return Complete(claim, ANSWER, Timings(ran_ms=1_234, first_token_ms=56), Usage(12, 34, 46), 7)


def fail(claim: int, kind: ErrorKind, retry_after_ms: int | None = None) -> Fail:
    return Fail(claim, JobError(kind, f"what {kind} looks like", retry_after_ms), jitter=0.25)


def lose(claim: int, why: LostBecause = LostBecause.LEASE_RAN_OUT) -> Lose:
    return Lose(claim, why, deliveries_max=2)


async def _job(store: EventStore, *commands: Command, **submitted: Any) -> str:
    job = await a_job(store, **submitted)
    for command in commands:
        await store.execute(job, command)
    return job


async def completed(store: EventStore) -> str:
    known = {"tenant": "acme", "metadata": {"order": "17", "naïve": "♥"}, "queue": "chat-1"}
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    return await _job(store, Claim("w1"), complete(1), traceparent=trace, **known)


async def completed_after_a_delay(store: EventStore) -> str:
    low = {"kind": Kind.EMBEDDINGS, "priority": Priority.LOW, "model": "nomic-embed-text:v1.5"}
    return await _job(
        store, Enqueue(), Claim("w1"), complete(1), delay_ms=60_000, deadline_ms=DEADLINE_MS, **low
    )


async def completed_after_errors_of_every_kind(store: EventStore) -> str:
    kinds = [kind for kind in ErrorKind if is_worth_retrying(kind)]
    commands: list[Command] = []
    for at, kind in enumerate(kinds):
        commands += (Claim(f"w{at}"), fail(at + 1, kind, 1_000 * at or None), Enqueue())
    last = len(kinds) + 1
    commands += (Claim("w1"), complete(last))
    return await _job(store, *commands, attempts_max=last, kind=Kind.COMPLETIONS)


async def failed(store: EventStore) -> str:
    return await _job(store, Claim("w1"), fail(1, ErrorKind.BAD_REQUEST), priority=Priority.HIGH)


async def rejected_at_the_second_attempt(store: EventStore) -> str:
    again = (Enqueue(), Claim("w2"), fail(2, ErrorKind.REJECTED))
    return await _job(store, Claim("w1"), fail(1, ErrorKind.OVERLOAD), *again)


async def failed_with_no_attempt_left(store: EventStore) -> str:
    return await _job(store, Claim("w1"), fail(1, ErrorKind.OUT_OF_MEMORY), attempts_max=1)


async def failed_by_the_recovery_policy(store: EventStore) -> str:
    policy = RecoveryPolicy.FAIL
    return await _job(store, Claim("w1"), Lose(1, LostBecause.LEASE_RAN_OUT, 5, policy))


async def poisoned(store: EventStore) -> str:
    return await _job(store, Claim("w1"), lose(1), Claim("w2"), lose(2))


async def drained_and_completed(store: EventStore) -> str:
    return await _job(store, Claim("w1"), lose(1, LostBecause.DRAINED), Claim("w2"), complete(2))


async def never_started_and_completed(store: EventStore) -> str:
    lost = lose(1, LostBecause.NEVER_STARTED)
    return await _job(store, Claim("w1"), lost, Claim("w2"), complete(2))


async def cancelled_while_waiting(store: EventStore) -> str:
    return await _job(store, Cancel("ops", "not needed"), deadline_ms=DEADLINE_MS)


async def cancelled_while_scheduled(store: EventStore) -> str:
    return await _job(store, Cancel("api"), delay_ms=60_000)


async def cancelled_while_running(store: EventStore) -> str:
    return await _job(store, Claim("w1"), Cancel("api", "too slow"), ConfirmCancel(1))


async def cancelled_as_its_worker_was_lost(store: EventStore) -> str:
    return await _job(store, Claim("w1"), Cancel("ops"), lose(1))


async def completed_though_a_cancel_was_requested(store: EventStore) -> str:
    return await _job(store, Claim("w1"), Cancel("ops", "never mind"), complete(1))


async def expired(store: EventStore) -> str:
    return await _job(store, Expire(), deadline_ms=DEADLINE_MS)


async def requeued_after_it_was_poisoned(store: EventStore) -> str:
    again = (Requeue("ops"), Claim("w3"), complete(3))
    return await _job(store, Claim("w1"), lose(1), Claim("w2"), lose(2), *again)


async def requeued_after_it_was_cancelled(store: EventStore) -> str:
    again = (Requeue("api"), Claim("w1"), complete(1))
    return await _job(store, Cancel("api"), *again, priority=Priority.LOW)


async def requeued_after_it_expired(store: EventStore) -> str:
    return await _job(store, Expire(), Requeue("ops"), deadline_ms=DEADLINE_MS)


async def scheduled_by_its_backoff(store: EventStore) -> str:
    failed_once = fail(1, ErrorKind.OVERLOAD, retry_after_ms=30_000)
    return await _job(store, Claim("w1"), failed_once, deadline_ms=DEADLINE_MS)


async def waiting_in_front_after_a_loss(store: EventStore) -> str:
    return await _job(store, Claim("w1"), lose(1), deadline_ms=DEADLINE_MS)


async def running_for_the_third_time(store: EventStore) -> str:
    before = (Claim("w1"), lose(1), Claim("w2"), fail(2, ErrorKind.TIMEOUT), Enqueue())
    return await _job(store, *before, Claim("w3"))


async def running_and_to_be_cancelled(store: EventStore) -> str:
    return await _job(store, Claim("w1"), Cancel("ops", "wrong model"))


async def completed_for_an_api_key(store: EventStore) -> str:
    return await _job(store, Claim("w1"), complete(1), key="k-17", metadata={"order": "17"})


async def requeued_for_an_api_key(store: EventStore) -> str:
    again = (Requeue("ops"), Claim("w2"), lose(2), Claim("w3"))
    rejected = fail(1, ErrorKind.BAD_REQUEST)
    return await _job(store, Claim("w1"), rejected, *again, key="k-17", tenant="acme")


async def cancelled_for_an_api_key_while_scheduled(store: EventStore) -> str:
    return await _job(store, Cancel("ops"), delay_ms=60_000, deadline_ms=DEADLINE_MS, key="k-17")


async def waiting_for_an_api_key(store: EventStore) -> str:
    return await _job(store, priority=Priority.HIGH, deadline_ms=DEADLINE_MS, key="k-17")


async def forgotten_after_errors(store: EventStore) -> str:
    return await _job(
        store,
        *(Claim("w1"), fail(1, ErrorKind.OVERLOAD), Enqueue()),
        *(Claim("w2"), complete(2), Forget("ops", "ticket 7")),
        metadata={"project": "alpha"},
    )


async def forgotten_without_a_reason(store: EventStore) -> str:
    return await _job(store, Cancel("somebody"), Forget("ops"))


async def a_worker(store: EventStore) -> str:
    started = WorkerStarted(
        capacity=4,
        queues=("default", "batch"),
        models=("echo", "llama3.2:3b"),
        upstream="http://10.0.0.5:8000",
        host="gpu-1",
        gpus=(Gpu(index=1, name="NVIDIA RTX A4000", memory_bytes=16 * 2**30),),
    )
    roster = Roster(store)
    for event in (
        started,
        WorkerLost(by="w2"),
        started,
        WorkerDraining(running=3),
        WorkerStopped(),
    ):
        await roster.record("gpu-1-77-abc", event)
    return worker_subject("gpu-1-77-abc")


async def a_worker_for_every_queue(store: EventStore) -> str:
    started = WorkerStarted(capacity=1, queues=(), models=(), upstream="echo://", host="h")
    await Roster(store).record("h-1-f", started)
    return worker_subject("h-1-f")


async def a_queue(store: EventStore) -> str:
    queues = Queues(store)
    await queues.set_paused("nightly", paused=True, by="ops", reason="maintenance")
    await queues.set_paused("nightly", paused=False, by="api")
    await queues.set_paused("nightly", paused=True, by="api")
    return queue_subject("nightly")


LIVES: Final[tuple[Life, ...]] = (
    completed,
    completed_after_a_delay,
    completed_after_errors_of_every_kind,
    failed,
    rejected_at_the_second_attempt,
    failed_with_no_attempt_left,
    failed_by_the_recovery_policy,
    poisoned,
    drained_and_completed,
    never_started_and_completed,
    cancelled_while_waiting,
    cancelled_while_scheduled,
    cancelled_while_running,
    cancelled_as_its_worker_was_lost,
    completed_though_a_cancel_was_requested,
    expired,
    requeued_after_it_was_poisoned,
    requeued_after_it_was_cancelled,
    requeued_after_it_expired,
    scheduled_by_its_backoff,
    waiting_in_front_after_a_loss,
    running_for_the_third_time,
    running_and_to_be_cancelled,
    completed_for_an_api_key,
    requeued_for_an_api_key,
    cancelled_for_an_api_key_while_scheduled,
    waiting_for_an_api_key,
    forgotten_after_errors,
    forgotten_without_a_reason,
    a_worker,
    a_worker_for_every_queue,
    a_queue,
)
