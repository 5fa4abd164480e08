"""What the append has to change besides the log."""

from typing import Any

import pytest
from msgspec import structs

from core import events
from core.commands import Cancel, Claim, Command, Enqueue, Requeue
from core.effects import Arm, Counter, Effects, Timer, counter_of, effects
from core.events import LostBecause, Usage
from core.job import decide, fold
from core.states import Job, Lane
from tests.core.examples import CLAIM, JOBS, RUNNING, complete, fail, lose
from tests.given import submitted


def after(before: Job | None, command: Command) -> Effects:
    decided = decide(before, command)
    job = fold(decided, before)
    assert job is not None
    return effects(before, decided, job)


def of_submission(**changes: object) -> Effects:
    event = submitted(**changes)
    job = fold([event])
    assert job is not None
    return effects(None, [event], job)


def test_a_submission_enters_its_lane_and_is_counted() -> None:
    effect = of_submission(priority=events.Priority.HIGH)
    assert effect.enter is Lane.HIGH
    assert effect.counts == ((Counter.WAITING, 1),)
    assert not effect.arm


def test_a_delayed_submission_arms_its_timer_and_enters_no_lane() -> None:
    effect = of_submission(delay_ms=700)
    assert effect.enter is None
    assert effect.arm == (Arm(Timer.DUE, 700, since=1),)
    assert effect.counts == ((Counter.SCHEDULED, 1),)


def test_a_deadline_counts_from_the_submission_even_if_there_is_a_delay() -> None:
    effect = of_submission(delay_ms=700, deadline_ms=900)
    assert set(effect.arm) == {Arm(Timer.DUE, 700, since=1), Arm(Timer.DEADLINE, 900, since=1)}


def test_a_job_that_comes_due_keeps_its_deadline() -> None:
    effect = after(JOBS["scheduled, with a deadline"], Enqueue())
    assert effect.disarm == (Timer.DUE,)
    assert effect.arm == ()
    assert effect.enter is Lane.NORMAL


def test_a_claim_keeps_the_lane_entry_pending_and_lifts_the_deadline() -> None:
    effect = after(JOBS["queued, with a deadline"], Claim("w1"))
    assert not effect.leave
    assert effect.disarm == (Timer.DEADLINE,)
    assert effect.counts == ((Counter.WAITING, -1), (Counter.RUNNING, 1))


def test_an_ending_leaves_the_lane_and_lets_the_head_expire() -> None:
    effect = after(RUNNING, complete(CLAIM))
    assert effect.leave
    assert effect.ended
    assert effect.enter is None


def test_what_is_taken_back_moves_to_the_front_and_its_deadline_is_armed_again() -> None:
    running = structs.replace(RUNNING, deadline_ms=900, born=2)
    effect = after(running, lose(CLAIM))
    assert (effect.leave, effect.enter) == (True, Lane.FRONT)
    assert effect.arm == (Arm(Timer.DEADLINE, 900, since=2),)


def test_a_failed_attempt_waits_its_backoff_from_the_failure_on() -> None:
    effect = after(RUNNING, fail(CLAIM, jitter=0.5))
    assert effect.arm == (Arm(Timer.DUE, 500, since=RUNNING.version + 1),)


def test_a_cancelled_wait_stops_both_timers() -> None:
    effect = after(JOBS["scheduled, with a deadline"], Cancel("me"))
    assert set(effect.disarm) == {Timer.DUE, Timer.DEADLINE}


def test_a_request_to_cancel_tells_the_worker_and_changes_nothing_else() -> None:
    effect = after(RUNNING, Cancel("me"))
    assert effect.tell == "w1"
    assert not (effect.leave)
    assert not (effect.enter)
    assert not (effect.arm)
    assert not (effect.disarm)
    assert not (effect.counts)


def test_a_requeue_enters_the_lane_and_counts_the_deadline_anew() -> None:
    expired = structs.replace(JOBS["expired"], deadline_ms=900)  # type: ignore[type-var]
    effect = after(expired, Requeue("me"))
    assert effect.enter is Lane.NORMAL
    assert effect.arm == (Arm(Timer.DEADLINE, 900, since=10),)
    assert not effect.ended


def test_a_loss_that_parks_the_job_does_not_pass_through_a_lane() -> None:
    effect = after(RUNNING, lose(CLAIM, LostBecause.LEASE_RAN_OUT, deliveries_max=1))
    assert (effect.leave, effect.enter, effect.ended) == (True, None, True)


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "expired", "nothing"])
def test_what_has_ended_is_counted_nowhere(state: str) -> None:
    assert counter_of(JOBS[state]) is None


def test_what_was_claimed_only_to_give_it_back_leaves_its_lane_for_the_front() -> None:
    queued = JOBS["queued"]
    [claimed] = decide(queued, Claim("rescuer"))
    running = fold([claimed], queued)
    [lost] = decide(running, lose(CLAIM + 1, LostBecause.NEVER_STARTED))
    back = fold([lost], running)
    assert back is not None
    effect = effects(queued, (claimed, lost), back)
    assert (effect.leave, effect.enter, effect.counts) == (True, Lane.FRONT, ())


@pytest.mark.parametrize(
    ("state", "command", "change"),
    [
        ("nothing", None, 1),
        ("scheduled", Enqueue(), 0),
        ("queued", Claim("w1"), 0),
        ("queued", Cancel("me"), -1),
        ("running", complete(CLAIM), -1),
        ("running", fail(CLAIM), 0),
        ("running", lose(CLAIM), 0),
        ("failed", Requeue("me"), 1),
    ],
)
def test_a_key_has_a_job_in_flight_until_it_has_ended(
    state: str, command: Command | None, change: int
) -> None:
    if command is None:
        assert of_submission(key="k").in_flight == change
        return
    job: Any = JOBS[state]
    assert after(structs.replace(job, key="k"), command).in_flight == change
    assert after(job, command).in_flight == 0


def test_what_an_answer_took_is_spent_by_the_key_of_its_job() -> None:
    answer = structs.replace(complete(CLAIM), usage=Usage(12, 34, 46))
    assert after(structs.replace(RUNNING, key="k"), answer).spends == 46
    assert after(RUNNING, answer).spends == 0
    assert after(structs.replace(RUNNING, key="k"), complete(CLAIM)).spends == 0
