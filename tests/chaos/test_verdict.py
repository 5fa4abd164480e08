"""The verdict is worth something: each thing that may be wrong is noticed, and named."""

from collections.abc import Iterator

import pytest
from msgspec import Raw

from core import events
from core.events import JobEvent, LostBecause, Timings
from core.log import LogEntry, tag_of
from tests.chaos.faults import Fault, Injected, Kind
from tests.chaos.readers import Reading, SeenEvent, SeenOutput
from tests.chaos.spy import Write
from tests.chaos.verdict import broken_fences, broken_promises, misread, recoveries
from tests.given import submitted

JOB = "job-1"
RESULT = Raw(b'{"choices":[{"message":{"content":"one two"}}]}')
CLAIMED = events.Claimed(claim=1, attempt=1, worker="host-77-abc")
LOST = events.AttemptLost(claim=1, worker="host-77-abc", why=LostBecause.LEASE_RAN_OUT)
CLAIMED_AGAIN = events.Claimed(claim=2, attempt=1, worker="host-78-def")
COMPLETED = events.Completed(claim=1, attempt=1, result=RESULT, timings=Timings(1), chunks=2)
CANCELLED = events.Cancelled(by="api")
REQUEUED = events.Requeued(by="api")


def log_of(*history: JobEvent) -> list[LogEntry]:
    """A job's log, one event a second."""
    return [
        LogEntry(f"{version}000-0", version * 1_000, version, JOB, version, "op", event)
        for version, event in enumerate((submitted(), *history), 1)
    ]


def seen_of(log: list[LogEntry]) -> list[SeenEvent]:
    return [SeenEvent(entry.version, tag_of(entry.event), entry.id) for entry in log]


def wrong(found: Iterator[str]) -> str:
    return "; ".join(found)


def test_a_log_as_it_should_be_breaks_nothing() -> None:
    logs = {JOB: log_of(CANCELLED, REQUEUED, CLAIMED, COMPLETED)}
    assert not wrong(broken_promises(logs, {JOB}, {"key": {JOB}}))
    assert not wrong(broken_fences(logs, {Write(JOB, 4, 1)}))
    assert not wrong(misread(logs[JOB], Reading(JOB, events=seen_of(logs[JOB]))))


def test_an_accepted_job_that_is_not_in_the_log_is_lost() -> None:
    assert "not in the log" in wrong(broken_promises({}, {JOB}, {}))


def test_a_key_has_one_job() -> None:
    assert "has 2 jobs" in wrong(broken_promises({}, set(), {"key": {"job-1", "job-2"}}))


@pytest.mark.parametrize(
    ("history", "count"),
    [
        ((CLAIMED,), 0),
        ((CLAIMED, COMPLETED, COMPLETED), 2),
        ((CANCELLED, REQUEUED, CLAIMED), 0),
        ((REQUEUED, CLAIMED, COMPLETED), 0),
    ],
)
def test_a_life_has_one_ending(history: tuple[JobEvent, ...], count: int) -> None:
    found = wrong(broken_promises({JOB: log_of(*history)}, set(), {}))
    assert f"a life with {count} endings" in found


@pytest.mark.parametrize(("version", "claim"), [(1, 1), (3, 1), (4, 1), (5, 2)])
def test_output_of_a_claim_that_is_over_is_a_broken_fence(version: int, claim: int) -> None:
    logs = {JOB: log_of(CLAIMED, LOST, CLAIMED_AGAIN, CANCELLED)}
    assert "not the current one" in wrong(broken_fences(logs, {Write(JOB, version, claim)}))
    assert not wrong(broken_fences(logs, {Write(JOB, 2, 1), Write(JOB, 4, 2)}))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_reader_of_events_sees_each_once_and_in_order(at: int) -> None:
    log = log_of(CLAIMED, COMPLETED)
    seen = seen_of(log)
    assert "saw" in wrong(misread(log, Reading(JOB, events=[*seen[:at], seen[at], *seen[at:]])))
    if at < 2:
        assert "saw" in wrong(misread(log, Reading(JOB, events=seen[:at] + seen[at + 1 :])))


ONE, TWO = SeenOutput("chunk", 1, 1, "one"), SeenOutput("chunk", 1, 2, " two")
RETOLD = (SeenOutput("chunk", 2, 1, "one"), SeenOutput("chunk", 2, 2, " two"))
TOLD_LOST, RESYNC, ENDED = (SeenOutput(name) for name in ("attempt_lost", "resync", "completed"))


@pytest.mark.parametrize(
    "output",
    [
        (ONE, TWO, ENDED),
        (ONE, RESYNC, ENDED),
        (ONE, TOLD_LOST, *RETOLD, ENDED),
        (ONE, TOLD_LOST, TOLD_LOST, *RETOLD, ENDED),
    ],
)
def test_output_that_is_whole_or_says_that_it_is_not_is_well(
    output: tuple[SeenOutput, ...],
) -> None:
    log = log_of(CLAIMED, COMPLETED)
    assert not wrong(misread(log, Reading(JOB, is_whole=True, output=list(output))))


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ((ONE, ENDED), "was told 'one'"),
        ((ONE, ONE, TWO, ENDED), "came late, or again"),
        ((TWO, ONE, ENDED), "came late, or again"),
        ((ONE, *RETOLD, ENDED), "nobody said that claim 1 was lost"),
        ((*RETOLD, TOLD_LOST, ONE, ENDED), "came late, or again"),
        ((ONE, SeenOutput("chunk", 1, 3, " two"), ENDED), "nothing was said of a gap"),
        ((TWO, ENDED), "nothing was said of a gap"),
        ((ONE, TOLD_LOST, RETOLD[1], ENDED), "nothing was said of a gap"),
        ((ONE, TOLD_LOST, TWO, ENDED), "came late, or again"),
    ],
)
def test_output_that_is_not_what_it_seems_is_noticed(
    output: tuple[SeenOutput, ...], what: str
) -> None:
    log = log_of(CLAIMED, COMPLETED)
    assert what in wrong(misread(log, Reading(JOB, is_whole=True, output=list(output))))


def killed(at_ms: int, pid: int = 77) -> list[Injected]:
    fault = Fault(kind=Kind.WORKER_KILLED, target="worker-1", at_seconds=0.0)
    return [Injected(fault=fault, at_ms=at_ms, pid=pid)]


def test_recovery_is_from_the_kill_to_the_next_claim_of_what_the_worker_ran() -> None:
    logs = {JOB: log_of(CLAIMED, LOST, CLAIMED_AGAIN, CANCELLED)}
    assert list(recoveries(logs, killed(2_500))) == [1_500]
    assert not list(recoveries(logs, killed(2_500, pid=78)))
    assert not list(recoveries(logs, killed(1_500)))
    assert not list(recoveries(logs, killed(3_500)))
