"""What the read side does: entries/s of a rebuild and of verify, and how far views lag at full load.

    python -m benchmarks.projections                 all of it, about three minutes
    python -m benchmarks.projections --only lag      one part: fold or lag

Both are measured beside what they cannot do without, reading and decoding the same log, in the same
round; each in one process, on the event loop of the command line. The lag is that of `respool projector` while the engine's benchmark submits and works.
"""

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.backlog import PEER
from benchmarks.roles import role
from benchmarks.server import BenchmarkRedis
from cli.loop import run
from core.log import entry_of
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from projections.building import build, log_lengths
from projections.feed import read
from projections.generations import serving
from projections.replay.verify import verify

JOBS = 50_000
LAG_JOBS = 60_000
_SAMPLE_SECONDS = 0.05


def main() -> None:
    parts = {"fold": fold, "lag": lag}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=parts, help="one part instead of all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    arguments = parser.parse_args()
    with BenchmarkRedis() as redis:
        print(f"{platform.processor() or platform.machine()}, {redis.version}", flush=True)
        for name, part in parts.items():
            if arguments.only in {None, name}:
                print(f"\n## {name}\n", flush=True)
                run(part(redis, arguments.rounds))


async def fold(redis: BenchmarkRedis, rounds: int) -> None:
    """Entries/s of reading and decoding alone, of folding all views anew, and of `replay verify`.

    And the memory that views take, of which there are none before the first rebuild.
    """
    redis.empty()
    for what in ("submit", "work"):
        await _peer(what, redis, JOBS)
    store = await _store(redis)
    [entries] = await log_lengths(store)
    before = redis.used_memory_bytes()
    await build(store)
    per_job = (redis.used_memory_bytes() - before) / JOBS
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "read and decode": lambda: _decode(store),
        "rebuild": lambda: build(store),
        "verify": lambda: _verify(store),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(entries / await _seconds(way))
    await store.client.aclose()
    alone = statistics.median(rates["read and decode"])
    print(f"{entries:,} entries of {JOBS:,} jobs; views take {per_job:,.0f} bytes a job")
    for name, values in rates.items():
        median = statistics.median(values)
        print(
            f"{name}: {median:,.0f} entries/s in one process (median of {rounds}), "
            f"{median / alone:.2f} of reading and decoding alone"
        )


async def _verify(store: EventStore) -> None:
    report, _ = await verify(store)
    assert not report.findings, report.findings


async def _decode(store: EventStore) -> None:
    after = "0-0"
    while raws := await read(store, 0, after, 1_000):
        after = [entry_of(raw) for raw in raws][-1].id


async def lag(redis: BenchmarkRedis, rounds: int) -> None:
    """How far `respool projector` is behind while the engine submits and works, and for how long after."""
    for _ in range(rounds):
        for with_projector in (False, True):
            redis.empty()
            store = await _store(redis)
            for what in ("submit", "work"):
                if with_projector:
                    with role("projector", redis.url):
                        print(await _under(what, redis, store), flush=True)
                else:
                    rate = await _peer(what, redis, LAG_JOBS)
                    print(f"{what}: {rate:,.0f} jobs/s without a projector", flush=True)
            await store.client.aclose()


async def _under(what: str, redis: BenchmarkRedis, store: EventStore) -> str:
    """One load, with a projector; in words."""
    await _until_caught_up(store)
    working = asyncio.create_task(_peer(what, redis, LAG_JOBS))
    behind: list[int] = []
    while not working.done():
        behind.append(await _behind(store))
        await asyncio.sleep(_SAMPLE_SECONDS)
    left, began = await _behind(store), time.perf_counter()
    await _until_caught_up(store)
    took = time.perf_counter() - began
    rate = left / took if left and took else 0
    return (
        f"{what}: {working.result():,.0f} jobs/s with one; lag in entries {statistics.median(behind):,.0f} "
        f"median, {max(behind):,} at most; {left:,} at the end, gone {took:.1f} s later"
        + (f" ({rate:,.0f} entries/s)" if left > 1_000 else "")
    )


async def _behind(store: EventStore) -> int:
    [end] = await log_lengths(store)
    at = await (await serving(store)).view(store, 0).checkpoint()
    return end - at.sequence


async def _until_caught_up(store: EventStore) -> None:
    while await _behind(store):
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _store(redis: BenchmarkRedis) -> EventStore:
    client = connect(redis.url)
    await migrate(client)
    return EventStore(client, 1, Bounds(waiting_max=10**9, scheduled_max=10**9))


async def _peer(what: str, redis: BenchmarkRedis, jobs: int) -> float:
    """Run one of the engine's loads in a process of its own; its jobs/s."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PEER), what, redis.url, str(jobs), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    lines = [line for line in output.decode().splitlines() if line.startswith("{")]
    return float(json.loads(lines[-1])["per_second"])


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
