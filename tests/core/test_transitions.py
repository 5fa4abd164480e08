"""The transition table: every state with every command; what is not listed is refused."""

import itertools

import pytest

from core.events import JobEvent
from core.job import CommandRefused, decide, evolve, fold
from core.log import tag_of
from core.states import status_of
from tests.core.examples import CLAIM, COMMANDS, JOBS, lose

# (state, command) -> (events, state after)
ALLOWED: dict[tuple[str, str], tuple[list[str], str | None]] = {
    ("nothing", "submit"): (["submitted"], "queued"),
    ("scheduled", "enqueue"): (["queued"], "queued"),
    ("scheduled", "cancel"): (["cancelled"], "cancelled"),
    ("scheduled, with a deadline", "enqueue"): (["queued"], "queued"),
    ("scheduled, with a deadline", "cancel"): (["cancelled"], "cancelled"),
    ("scheduled, with a deadline", "expire"): (["expired"], "expired"),
    ("queued", "claim"): (["claimed"], "running"),
    ("queued", "cancel"): (["cancelled"], "cancelled"),
    ("queued, with a deadline", "claim"): (["claimed"], "running"),
    ("queued, with a deadline", "cancel"): (["cancelled"], "cancelled"),
    ("queued, with a deadline", "expire"): (["expired"], "expired"),
    ("running", "complete"): (["completed"], "completed"),
    ("running", "fail"): (["attempt_failed"], "scheduled"),
    ("running", "lose"): (["attempt_lost"], "queued"),
    ("running", "cancel"): (["cancel_requested"], "running"),
    ("running, to be cancelled", "complete"): (["completed"], "completed"),
    ("running, to be cancelled", "fail"): (["cancelled"], "cancelled"),
    ("running, to be cancelled", "lose"): (["attempt_lost", "cancelled"], "cancelled"),
    ("running, to be cancelled", "cancel"): ([], "running"),
    ("running, to be cancelled", "confirm cancel"): (["cancelled"], "cancelled"),
    ("failed", "requeue"): (["requeued"], "queued"),
    ("cancelled", "requeue"): (["requeued"], "queued"),
    ("expired", "requeue"): (["requeued"], "queued"),
    ("completed", "forget"): (["redacted"], "completed"),
    ("failed", "forget"): (["redacted"], "failed"),
    ("cancelled", "forget"): (["redacted"], "cancelled"),
    ("expired", "forget"): (["redacted"], "expired"),
    ("failed, forgotten", "forget"): ([], "failed"),
}
REFUSED = sorted(set(itertools.product(JOBS, COMMANDS)) - ALLOWED.keys())


@pytest.mark.parametrize(("state", "command"), ALLOWED)
def test_an_allowed_command_leads_to_its_events(state: str, command: str) -> None:
    job = JOBS[state]
    events = decide(job, COMMANDS[command])
    after = fold(events, job)
    expected_events, expected_status = ALLOWED[state, command]
    assert [tag_of(event) for event in events] == expected_events
    assert after is not None
    assert status_of(after) == expected_status


@pytest.mark.parametrize(("state", "command"), REFUSED)
def test_any_other_command_is_refused_with_the_state(state: str, command: str) -> None:
    job = JOBS[state]
    with pytest.raises(CommandRefused) as refusal:
        decide(job, COMMANDS[command])
    assert refusal.value.status == (None if job is None else status_of(job))


@pytest.mark.parametrize("state", [state for state in JOBS if state != "nothing"])
def test_every_event_makes_exactly_one_version(state: str) -> None:
    job = JOBS[state]
    assert job is not None
    for event in _every_event():
        after = evolve(job, event)
        assert after.version == (1 if tag_of(event) == "submitted" else job.version + 1)


def test_an_event_without_a_job_before_it_is_no_history() -> None:
    for event in _every_event():
        if tag_of(event) != "submitted":
            with pytest.raises(ValueError, match="does not begin with"):
                evolve(None, event)


def _every_event() -> list[JobEvent]:
    events: dict[str, JobEvent] = {}
    for state, command in ALLOWED:
        for event in decide(JOBS[state], COMMANDS[command]):
            events[tag_of(event)] = event
    _, failed = decide(JOBS["running"], lose(CLAIM, deliveries_max=1))
    return [*events.values(), failed]
