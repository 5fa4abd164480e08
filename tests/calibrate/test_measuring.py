"""A server is measured: what it holds, how fast it is, and where that ends. All of it on a clock that never waits."""

import asyncio

import pytest

from cli.calibrate.memory import Look
from cli.calibrate.question import CalibrationError, Question
from cli.calibrate.rising import Measured, measured
from core.calibration import Level, recommended
from core.roster import GpuMemory
from tests.calibrate.server import Server
from tests.gpus.nvml import GIB
from tests.simulation.loop import VirtualLoop

SECONDS = 10.0


async def no_gpu() -> tuple[GpuMemory, ...]:
    return ()


def calibrated(server: Server, look: Look = no_gpu, most: int = 8) -> Measured:
    """What is measured, and was told meanwhile."""
    seen: list[Level] = []
    measuring = measured(
        server, Question("echo"), {0: "NVIDIA RTX A4000"}, look, SECONDS, most, seen.append
    )
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        found = runner.run(measuring)
    assert tuple(seen) == found.levels
    return found


def at_once(found: Measured) -> list[int]:
    return [level.concurrency for level in found.levels]


def test_each_level_has_its_tokens_a_second_and_times_to_the_first() -> None:
    server = Server(token_seconds=0.02)
    found = calibrated(server, most=4)
    assert at_once(found) == [1, 2, 3, 4]
    assert server.at_once == 4
    for level in found.levels:
        assert level.tokens_per_second == pytest.approx(50 * level.concurrency, rel=0.01)
        assert level.first_token_ms == level.first_token_p95_ms == pytest.approx(20)
        assert level.seconds == SECONDS
        assert level.answers >= 5 * level.concurrency
    assert recommended(found.levels, found.memory) == 4
    assert len(server.prompts) == len(set(server.prompts))  # No prefix cache answers.


def test_a_server_that_runs_two_at_once_is_good_for_two() -> None:
    found = calibrated(Server(slots=2))
    assert at_once(found) == [1, 2, 3, 4, 6, 8]
    assert recommended(found.levels, found.memory) == 2
    assert found.levels[3].first_token_ms > 1_000 > found.levels[1].first_token_p95_ms
    assert found.notes == ("no NVIDIA GPU is seen here: the figure is of throughput alone",)


def test_what_a_request_takes_is_measured_and_no_more_is_sent_than_fits() -> None:
    server = Server(base_gib=8, per_request_gib=4)
    found = calibrated(server, server.look)
    assert found.memory is not None
    assert (found.memory.base_bytes, found.memory.loaded_bytes) == (8 * GIB, 12 * GIB)
    assert found.memory.per_request_bytes == 4 * GIB
    assert (found.memory.by_guide, found.memory.beside_base) == (5, 3)
    assert at_once(found) == [1, 2, 3]
    assert server.at_once == 3
    assert recommended(found.levels, found.memory) == 3
    assert found.notes == ()


def test_a_server_that_took_its_memory_before_is_measured_by_its_throughput() -> None:
    server = Server(base_gib=30, slots=2)
    found = calibrated(server, server.look)
    assert found.memory is None
    assert found.devices[0].base_bytes == 30 * GIB
    assert recommended(found.levels, found.memory) == 2
    assert "took its memory at the start" in found.notes[0]


def test_where_there_is_no_reserve_it_is_one_at_a_time_and_said() -> None:
    server = Server(base_gib=20, per_request_gib=6)
    found = calibrated(server, server.look)
    assert at_once(found) == [1]
    assert recommended(found.levels, found.memory) == 1
    assert "there is no reserve" in found.notes[0]


def test_where_more_at_once_fail_it_ends_and_says_why() -> None:
    """Its GPU is on another machine, so nothing here tells how full it is."""
    found = calibrated(Server(base_gib=20, per_request_gib=5))
    assert at_once(found) == [1, 2]
    assert recommended(found.levels, found.memory) == 2
    assert found.notes[0] == "3 at once fail, so it was not raised further: CUDA out of memory"


def test_a_server_that_fails_at_the_first_request_is_not_measured() -> None:
    with pytest.raises(CalibrationError, match="a single request fails: CUDA out of memory"):
        calibrated(Server(base_gib=32, per_request_gib=1))


def test_an_answer_that_takes_longer_than_a_level_is_waited_for() -> None:
    found = calibrated(Server(token_seconds=0.5), most=1)
    assert found.levels[0].seconds == 50
    assert found.levels[0].tokens_per_second == 2


def test_memory_that_still_comes_back_from_before_is_waited_for() -> None:
    server = Server(base_gib=8, per_request_gib=4)
    before = iter([20, 18, 14, 9])  # A model that was unloaded just now.

    async def look() -> tuple[GpuMemory, ...]:
        [now] = await server.look()
        return (GpuMemory(0, max(next(before, 0) * GIB, now.used_bytes), now.total_bytes),)

    assert calibrated(server, look, most=1).devices[0].base_bytes == 8 * GIB


def test_memory_that_still_rises_is_waited_for() -> None:
    """Beyond the time of the level, as a cache fills while long answers go on."""
    began: list[float] = []

    async def look() -> tuple[GpuMemory, ...]:
        now = asyncio.get_running_loop().time()
        began[:] = began or [now]
        return (GpuMemory(0, round((8 + min(now - began[0], 25.0)) * GIB), 80 * GIB),)

    found = calibrated(Server(), look, most=1)
    assert found.levels[0].used_bytes == (33 * GIB,)
    assert found.levels[0].seconds < 20  # Of 15 that it rose, and the one that it was steady.
