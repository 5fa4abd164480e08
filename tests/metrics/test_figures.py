"""What a process counts, and says, of changes that it has written: without a store, change by change."""

import asyncio
from collections.abc import Collection

from msgspec import Raw

from cli.figures import BOUNDS_SECONDS, JobFigures
from cli.journal import Journal
from core.change import Change
from core.commands import Claim, Command, Complete, Expire, Lose, RecoveryPolicy, Submit
from core.events import LostBecause, Timings
from core.job import decide, fold
from core.settings import LogFormat
from core.states import Job
from core.tally import Durations
from tests.given import submitted

ANSWERED = Complete(1, Raw(b"{}"), Timings(ran_ms=2_400, first_token_ms=300), None, 0)


def changed(before: Job | None, command: Command, at_ms: int) -> Change:
    """What is written when somebody wants that of a job at that time."""
    events = decide(before, command)
    after = fold(events, before)
    assert after is not None
    ids = tuple(f"{at_ms}-{number}" for number in range(len(events)))
    return Change("one", before, events, after, ids)


def a_life(*commands: Command, model: str = "echo") -> list[Change]:
    """The changes of a job that each of these is wanted of, a second after the other."""
    changes = [changed(None, Submit(submitted(deadline_ms=60_000, model=model)), 0)]
    for number, command in enumerate(commands, start=1):
        changes.append(changed(changes[-1].after, command, number * 1_000))
    return changes


def counted(changes: list[Change]) -> JobFigures:
    figures = JobFigures()
    for change in changes:
        figures.note(change)
    return figures


def attempts(figures: JobFigures) -> dict[str, int]:
    """Those that there were, by what came of them."""
    return {outcome: count for (outcome,), count in figures.attempts if count}


def ends(figures: JobFigures) -> dict[str, int]:
    return {status: count for (_, status), count in figures.ended if count}


def buckets_of(durations: Durations) -> list[float]:
    """The upper bounds of the buckets that something is in."""
    [(_, series)] = durations
    return [BOUNDS_SECONDS[at] for at, count in enumerate(series.buckets) if count]


def test_an_answered_job_is_one_attempt_and_one_end_that_took_from_its_claim_to_there() -> None:
    figures = counted(a_life(Claim("w"), ANSWERED))
    assert attempts(figures) == {"completed": 1}
    assert ends(figures) == {"completed": 1}
    [(labels, series)] = figures.durations
    assert (labels, series.sum) == (("default", "completed"), 1.0)
    assert buckets_of(figures.durations) == [1.0]
    assert buckets_of(figures.first_tokens) == [0.5]


def test_a_job_that_ends_with_the_loss_of_its_worker_is_one_lost_attempt() -> None:
    lose = Lose(1, LostBecause.LEASE_RAN_OUT, 1, RecoveryPolicy.REQUEUE)
    figures = counted(a_life(Claim("w"), lose))
    assert attempts(figures) == {"lost": 1}
    assert ends(figures) == {"failed": 1}


def test_of_a_job_that_another_process_claimed_its_end_is_counted_and_no_duration() -> None:
    lose = Lose(1, LostBecause.LEASE_RAN_OUT, 1, RecoveryPolicy.REQUEUE)
    figures = counted(a_life(Claim("w"), lose)[2:])
    assert ends(figures) == {"failed": 1}
    assert not list(figures.durations)


def test_a_job_that_was_never_claimed_is_no_attempt() -> None:
    figures = counted(a_life(Expire()))
    assert attempts(figures) == {}
    assert ends(figures) == {"expired": 1}


async def test_a_line_for_a_person_stays_one_line_whatever_the_model_is_called() -> None:
    written: list[str] = []

    async def sizes(queues: Collection[str]) -> dict[str, int]:
        return dict.fromkeys(queues, 7)

    journal = Journal(
        written.append, sizes, LogFormat.CONSOLE, only_trouble=False, with_content=False
    )
    [change] = a_life(model="a\nmodel")
    journal.note(change)
    await journal.settle()
    [text] = written
    assert text.count("\n") == 1
    assert 'model="a\\nmodel" queue="default" queue_size=7 tenant="default"' in text


async def test_a_store_that_hangs_costs_lines_their_size_and_nothing_else() -> None:
    written: list[str] = []

    async def hangs(_: Collection[str]) -> dict[str, int]:
        await asyncio.Event().wait()
        return {}

    journal = Journal(written.append, hangs, LogFormat.JSON, only_trouble=False, with_content=False)
    [change] = a_life()
    journal.note(change)
    await journal.settle()
    assert '"event":"job submitted"' in written[0]
    assert "queue_size" not in written[0]
