"""How long a failed attempt waits for the next one, and when there is none."""

from hypothesis import given
from hypothesis import strategies as st

from core.commands import Claim, Enqueue, Fail
from core.events import AttemptFailed, ErrorKind, Failed, JobError
from core.job import decide, evolve
from core.retry import (
    BACKOFF_BASE_MS,
    BACKOFF_CEILING_MS,
    RETRY_AFTER_CEILING_MS,
    backoff_ms,
    is_worth_retrying,
)
from core.states import Job, Scheduled
from tests.core.examples import CLAIM, KNOWN, RUNNING
from tests.given import submitted

attempts = st.integers(1, 1_000)
jitters = st.floats(0, 1, exclude_max=True)
waits_ms = st.none() | st.integers(0, 2 * RETRY_AFTER_CEILING_MS)
FINAL = {
    ErrorKind.BAD_REQUEST,
    ErrorKind.REJECTED,
    ErrorKind.POISONED,
    ErrorKind.WORKER_LOST,
}


@given(attempts, jitters, waits_ms)
def test_a_backoff_is_between_what_was_asked_for_and_that_plus_its_ceiling(
    attempt: int, jitter: float, asked_ms: int | None
) -> None:
    least_ms = min(asked_ms or 0, RETRY_AFTER_CEILING_MS)
    ceiling_ms = min(BACKOFF_CEILING_MS, BACKOFF_BASE_MS * 2 ** (attempt - 1))
    assert least_ms <= backoff_ms(attempt, jitter, asked_ms) <= least_ms + ceiling_ms


@given(attempts)
def test_the_jitter_is_full_from_nothing_to_a_ceiling_that_doubles_until_its_cap(
    attempt: int,
) -> None:
    ceiling_ms = backoff_ms(attempt, 1.0)
    assert [backoff_ms(attempt, share) for share in (0.0, 0.5)] == [0, ceiling_ms // 2]
    assert backoff_ms(attempt + 1, 1.0) == min(2 * ceiling_ms, BACKOFF_CEILING_MS)


@given(attempts, jitters, jitters)
def test_more_jitter_is_never_less_delay(attempt: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert backoff_ms(attempt, low) <= backoff_ms(attempt, high)


@given(st.sampled_from(ErrorKind), jitters, waits_ms)
def test_the_event_says_what_went_wrong_and_when_the_next_attempt_is(
    kind: ErrorKind, jitter: float, asked_ms: int | None
) -> None:
    error = JobError(kind, "because of this", asked_ms)
    [event] = decide(RUNNING, Fail(CLAIM, error, jitter))
    assert isinstance(event, AttemptFailed | Failed)
    assert event.error == error
    if isinstance(event, AttemptFailed):
        assert event.delay_ms == backoff_ms(KNOWN.get("attempts", 0) + 1, jitter, asked_ms)
    assert isinstance(event, Failed) == (kind in FINAL)
    assert is_worth_retrying(kind) == (kind not in FINAL)


@given(st.integers(1, 100), st.lists(st.sampled_from(ErrorKind), min_size=100, max_size=100))
def test_a_job_is_tried_until_an_error_is_final_and_no_more_often_than_it_may(
    attempts_max: int, kinds: list[ErrorKind]
) -> None:
    job: Job | None = evolve(None, submitted(attempts_max=attempts_max))
    tries = 0
    for kind in kinds:
        tries += 1
        [claimed] = decide(job, Claim("w1"))
        job = evolve(job, claimed)
        [event] = decide(job, Fail(tries, JobError(kind, "no"), 0.5))
        job = evolve(job, event)
        if not isinstance(job, Scheduled):
            break
        [due] = decide(job, Enqueue())
        job = evolve(job, due)
    first_final = next((n for n, kind in enumerate(kinds, 1) if kind in FINAL), attempts_max)
    assert isinstance(event, Failed)
    assert tries == event.attempts == min(attempts_max, first_final)
