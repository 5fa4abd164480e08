"""The list of workers is looked up once for all who ask meanwhile, and anew for who asks later."""

import asyncio
import signal
from collections.abc import Iterator
from itertools import count

import pytest

from api.catalog import Catalog
from core.roster import Crew, Roster

STUCK_SECONDS = 5.0


class Slow(Roster):
    """A list of workers that comes when the test says so."""

    def __init__(self) -> None:
        self.looks: list[asyncio.Future[Crew]] = []

    async def crew(self) -> Crew:
        self.looks.append(asyncio.get_running_loop().create_future())
        return await self.looks[-1]


@pytest.fixture
def _never_stuck() -> Iterator[None]:
    """Interrupt a loop that does not go on, in which no timeout of asyncio's would ever be due."""

    def stuck(*_: object) -> None:
        raise AssertionError("the event loop stands still")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_never_stuck")
async def test_who_asks_at_the_very_moment_that_a_look_ends_looks_again() -> None:
    roster = Slow()
    catalog = Catalog(roster, monotonic=map(float, count()).__next__)
    first = asyncio.create_task(catalog.crew(0.0))
    while not roster.looks:
        await asyncio.sleep(0)
    roster.looks[0].set_result(Crew())
    late = asyncio.create_task(catalog.crew(0.0))  # Runs next, right after the look.
    await first
    assert len(roster.looks) == 2
    roster.looks[1].set_result(Crew())
    await late


async def test_whoever_asks_during_a_look_shares_it() -> None:
    roster = Slow()
    catalog = Catalog(roster, monotonic=lambda: 1.0)
    asking = asyncio.gather(*(catalog.crew() for _ in range(3)))
    while not roster.looks:
        await asyncio.sleep(0)
    roster.looks[0].set_result(Crew())
    await asking
    assert len(roster.looks) == 1
