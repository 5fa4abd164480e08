"""The short run: a fault of every kind on real processes under load. `make chaos` is the long one."""

from collections import Counter
from pathlib import Path

from tests.chaos.faults import Kind, draw
from tests.chaos.run import run

SEED = 7
FAULTS = 17


def say_nothing(_: str) -> None:
    """Leave the output to pytest."""


async def test_nothing_is_lost_and_nothing_ends_twice_whatever_is_killed_frozen_or_cut_off(
    tmp_path: Path,
) -> None:
    report = await run(SEED, FAULTS, tmp_path, say_nothing)
    assert not report.violations, f"seed {SEED}, logs in {tmp_path}: {report.violations}"
    assert set(report.faults) == {str(kind) for kind in Kind}
    assert report.figures.jobs_accepted > 10  # A slow machine does little, and still some.
    assert report.figures.attempts_lost
    assert report.figures.recovered_ms
    assert report.figures.output_writes_checked > 0


def test_the_same_seed_is_the_same_faults_at_the_same_times() -> None:
    assert draw(3, 200) == draw(3, 200)
    assert draw(3, 200) != draw(4, 200)


def test_no_target_has_two_faults_at_a_time_and_every_kind_has_its_turn() -> None:
    faults = draw(3, 300)
    free_at: dict[str, float] = {}
    for fault in faults:
        assert fault.at_seconds >= free_at.get(fault.target, 0.0)
        free_at[fault.target] = fault.at_seconds + fault.lasts_seconds
    assert Counter(fault.kind for fault in faults).keys() == set(Kind)
