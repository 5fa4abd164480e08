"""What the transitions mean: attempts, deliveries, lives, and who may write."""

import pytest

from core import events
from core.commands import Cancel, Claim, ConfirmCancel, Enqueue, Lose, RecoveryPolicy, Requeue
from core.events import ErrorKind, JobError, JobEvent, LostBecause
from core.job import CommandRefused, decide, evolve, fold
from core.retry import backoff_ms
from core.states import Failed, Job, Lane, Queued, Running, Scheduled
from tests.core.examples import CLAIM, KNOWN, OVERLOAD, RUNNING, complete, fail, lose
from tests.given import submitted

BAD_REQUEST = JobError(ErrorKind.BAD_REQUEST, "no messages")


def given(*history: JobEvent) -> Job:
    job = fold(history)
    assert job is not None
    return job


def claimed(claim: int, attempt: int = 1, worker: str = "w1") -> events.Claimed:
    return events.Claimed(claim=claim, attempt=attempt, worker=worker)


def lost(claim: int, worker: str = "w1") -> events.AttemptLost:
    return events.AttemptLost(claim=claim, worker=worker, why=LostBecause.LEASE_RAN_OUT)


def test_a_delay_schedules_a_job_and_none_queues_it_in_its_priority_s_lane() -> None:
    assert isinstance(given(submitted(delay_ms=1)), Scheduled)
    job = given(submitted(priority=events.Priority.HIGH))
    assert isinstance(job, Queued)
    assert job.lane is Lane.HIGH


def test_a_failure_with_attempts_left_schedules_the_job_again() -> None:
    job = given(submitted(attempts_max=2), claimed(1))
    [failed] = decide(job, fail(claim=1, jitter=0.5))
    assert isinstance(failed, events.AttemptFailed)
    assert failed.delay_ms == backoff_ms(1, jitter=0.5)
    after = evolve(job, failed)
    assert isinstance(after, Scheduled)
    assert after.attempts == 1


def test_the_last_attempt_s_failure_fails_the_job_and_names_the_error() -> None:
    job = given(submitted(attempts_max=1), claimed(1))
    [failed] = decide(job, fail(claim=1))
    assert isinstance(failed, events.Failed)
    assert (failed.error, failed.attempts) == (OVERLOAD, 1)


def test_what_a_retry_cannot_mend_is_not_tried_again() -> None:
    [failed] = decide(given(submitted(attempts_max=3), claimed(1)), fail(1, BAD_REQUEST))
    assert isinstance(failed, events.Failed)


def test_a_crash_costs_a_delivery_and_not_an_attempt() -> None:
    job = given(submitted(), claimed(1), lost(1))
    assert isinstance(job, Queued)
    assert job.lane is Lane.FRONT
    assert (job.attempts, job.lost_workers) == (0, ("w1",))


@pytest.mark.parametrize("why", [LostBecause.DRAINED, LostBecause.NEVER_STARTED])
def test_what_is_given_back_costs_neither(why: LostBecause) -> None:
    [event] = decide(RUNNING, lose(CLAIM, why, deliveries_max=1))
    after = evolve(RUNNING, event)
    assert (after.attempts, after.lost_workers) == (0, ())


def test_a_job_that_keeps_killing_workers_is_parked_with_their_names() -> None:
    job = given(submitted(), claimed(1, worker="a"), lost(1, "a"), claimed(2, worker="b"))
    attempt_lost, failed = decide(job, lose(2, deliveries_max=2))
    assert isinstance(attempt_lost, events.AttemptLost)
    assert isinstance(failed, events.Failed)
    assert failed.error.kind is ErrorKind.POISONED
    assert failed.lost_workers == ("a", "b")


def test_a_queue_may_ask_that_a_lost_worker_fails_the_job() -> None:
    command = Lose(CLAIM, LostBecause.LEASE_RAN_OUT, 5, RecoveryPolicy.FAIL)
    _, failed = decide(RUNNING, command)
    assert isinstance(failed, events.Failed)
    assert failed.error.kind is ErrorKind.WORKER_LOST


def test_a_claim_number_is_never_used_again_not_even_by_another_life() -> None:
    job = given(submitted(attempts_max=1), claimed(1))
    job = given(submitted(attempts_max=1), claimed(1), *decide(job, fail(1)))
    for command in (Requeue("me"), Claim("w2")):
        [event] = decide(job, command)
        job = evolve(job, event)
    assert isinstance(job, Running)
    assert job.claims == 2
    with pytest.raises(CommandRefused):
        decide(job, complete(1))


def test_a_requeue_starts_a_life_with_all_attempts_and_deliveries() -> None:
    parked = Failed(**KNOWN, attempts=3, lost_workers=("a",))
    job = evolve(parked, events.Requeued(by="me"))
    assert (job.attempts, job.lost_workers, job.born) == (0, (), KNOWN["version"] + 1)


def test_a_cancel_is_confirmed_by_whoever_asked_for_it_first() -> None:
    job = evolve(RUNNING, decide(RUNNING, Cancel("first", "too slow"))[0])
    assert decide(job, Cancel("second")) == ()
    [cancelled] = decide(job, ConfirmCancel(CLAIM))
    assert cancelled == events.Cancelled(by="first", reason="too slow")


def test_a_retry_that_comes_due_waits_in_its_priority_s_lane() -> None:
    job = given(submitted(priority=events.Priority.LOW, delay_ms=5))
    job = evolve(job, decide(job, Enqueue())[0])
    assert isinstance(job, Queued)
    assert job.lane is Lane.LOW
