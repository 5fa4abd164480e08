"""The store keeps its promises whatever crashes, and whatever becomes of calls on their way."""

import multiprocessing
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import get_args

import pytest

from core.events import JobEvent
from tests.simulation.network import Fate
from tests.simulation.run import Failed, run
from tests.simulation.server import simulated
from tests.simulation.tally import Tally, campaign

RUNS = {"valkey": 600, "redis": 400}  # Half of them always the same, half never seen before.
BLOWS = {"crash", "freeze", "cut", "stop", "redis away", "robbery", "newcomer"}


class Campaign:
    """Runs that are under way, in a process of their own."""

    def __init__(self, pool: ProcessPoolExecutor, kind: str, first: int, runs: int) -> None:
        fixed = range(runs // 2)
        fresh = range(first, first + runs // 2)
        self.first = first
        self.outcome: Future[Tally | Failed] = pool.submit(campaign, kind, (*fixed, *fresh))


@pytest.fixture(scope="module")
def campaigns() -> Iterator[dict[str, Campaign]]:
    """One campaign on each kind of server, at the same time."""
    context = multiprocessing.get_context("spawn")
    kinds = [kind for kind in RUNS if kind != "redis" or shutil.which("redis-server")]
    with ProcessPoolExecutor(len(kinds), context) as pool:
        yield {kind: Campaign(pool, kind, secrets.randbits(40), RUNS[kind]) for kind in kinds}


@pytest.mark.parametrize("kind", list(RUNS))
def test_no_promise_is_broken_in_any_run(kind: str, campaigns: dict[str, Campaign]) -> None:
    if kind not in campaigns:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    print(f"fresh seeds on {kind} from {campaigns[kind].first} on")
    outcome = campaigns[kind].outcome.result()
    if isinstance(outcome, Failed):
        steps = "\n".join(map(str, outcome.trace[-40:]))
        pytest.fail(f"{steps}\n\n{outcome}\nagain: {outcome.command(kind)}")
    print(outcome)
    assert outcome.runs == RUNS[kind]
    _assert_that_everything_happened(outcome)


def _assert_that_everything_happened(tally: Tally) -> None:
    """A proof that never saw a crash proves nothing about crashes."""
    job_events = {str(event.__struct_config__.tag) for event in get_args(JobEvent)}
    assert set(tally.fates) == {str(fate) for fate in Fate}
    assert set(tally.blows) == BLOWS
    assert job_events <= set(tally.events)
    assert tally.accepted > tally.runs
    assert tally.chunks > 0


def test_a_seed_is_one_run_to_the_letter() -> None:
    with simulated("valkey") as server:
        for seed in range(20):
            once, again = run(server, seed), run(server, seed)
            assert once.trace == again.trace
            assert once.log == again.log


def test_a_seed_is_the_same_run_in_another_process() -> None:
    outputs = {_played_under_hash_seed(hash_seed) for hash_seed in ("1", "2")}
    assert len(outputs) == 1


def _played_under_hash_seed(hash_seed: str) -> bytes:
    """A trace must not depend on the order of a set, which differs from process to process."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "36"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout
