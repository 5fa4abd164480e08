"""Projectors that are killed, again and again, while jobs go through: what the views are in the end.

python -m tests.projections.killing --kills 100
"""

import argparse
import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from random import Random

from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from projections.building import log_lengths
from projections.generations import serving
from tests.processes import Process, respool
from tests.projections.views import check_views, lives
from tests.servers import RedisServer, running, valkey

_CATCH_UP_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 0.01


async def kill_projectors(
    server: RedisServer, folder: Path, *, kills: int, seed: int, projectors: int = 2
) -> tuple[int, int]:
    """Kill a projector each time that the views have moved; how many commits and entries there were.

    Raises AssertionError if the views are not the fold of the log in the end.
    """
    random = Random(seed)
    client = connect(server.url)
    await migrate(client)
    store = EventStore(client, 1, Bounds(waiting_max=10**9, scheduled_max=10**9))
    view = (await serving(store)).view(store, 0)
    with ExitStack() as stack:

        def start() -> Process:
            return stack.enter_context(
                respool(folder / "projector.log", "projector", REDIS_URL=server.url)
            )

        running_now = [start() for _ in range(projectors)]
        async with _load(store, random):
            for _ in range(kills):
                before = (await view.checkpoint()).commits
                async with asyncio.timeout(_CATCH_UP_SECONDS):
                    while (await view.checkpoint()).commits < before + random.randrange(1, 4):
                        await asyncio.sleep(_LOOK_EVERY_SECONDS)
                victim = running_now.pop(random.randrange(len(running_now)))
                victim.send(signal.SIGKILL)
                victim.wait()
                running_now.append(start())
        [end] = await log_lengths(store)
        async with asyncio.timeout(_CATCH_UP_SECONDS):
            while (await view.checkpoint()).sequence < end:
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
    await check_views(store)
    at = await view.checkpoint()
    await client.aclose()
    assert "Traceback" not in (folder / "projector.log").read_text("utf-8")
    return at.commits, at.sequence


@asynccontextmanager
async def _load(store: EventStore, random: Random) -> AsyncIterator[None]:
    """Jobs that come and go until the block ends."""

    async def go_on() -> None:
        while True:
            await lives(store, 20, random)
            await asyncio.sleep(0.02)

    working = asyncio.create_task(go_on())
    try:
        yield
        assert not working.done(), working.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, running(valkey(Path(name))) as server:
        commits, entries = asyncio.run(
            kill_projectors(server, Path(name), kills=arguments.kills, seed=arguments.seed)
        )
    print(
        f"{arguments.kills} kills in {time.monotonic() - began:.0f} s: {entries:,} entries in "
        f"{commits:,} commits, and every view is the fold of the log"
    )


if __name__ == "__main__":
    main()
