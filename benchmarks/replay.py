"""What looking back costs: entries/s of `state`, `incident` and `export`, and the memory that they take.

    python -m benchmarks.replay                      1,000,000 entries, about four minutes
    python -m benchmarks.replay --entries 100000     fewer

Each way reads a whole log in a process of its own, beside what none can do without, reading and decoding
the same log, in the same round. Memory is the process's peak, and is also shown for a quarter of the log:
so that it can be seen not to grow with it.
"""

import argparse
import asyncio
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.backlog import PEER
from benchmarks.server import BenchmarkRedis
from cli.loop import run
from cli.report.files import JsonLines, Parquet
from core.log import entry_of
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from projections.building import clock_ms, log_lengths
from projections.feed import read
from projections.past.looking import export, incident, state_at, workload
from projections.past.whatif import Crew, compare

ENTRIES = 1_000_000
EVENTS_PER_JOB = 3
QUEUED_AT_ONCE = 50_000  # As jobs come and go, and a log of them all in line at once would be none.
ALONE = "read and decode"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=ENTRIES, help="in the log")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        run(one(arguments.way, arguments.url))
        return
    with BenchmarkRedis() as redis:
        print(f"{platform.processor() or platform.machine()}, {redis.version}", flush=True)
        measure(redis, arguments.entries // 4, rounds=1)
        measure(redis, arguments.entries, arguments.rounds)


def measure(redis: BenchmarkRedis, entries: int, rounds: int) -> None:
    """Make a log so long, and print what each way took."""
    fill(redis, entries)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    peaks: dict[str, float] = dict.fromkeys(WAYS, 0.0)
    for _ in range(rounds):
        for name in WAYS:
            took = _of_its_own(name, redis.url)
            rates[name].append(took["entries"] / took["seconds"])
            peaks[name] = max(peaks[name], took["peak_mib"])
    alone = statistics.median(rates[ALONE])
    print(f"\n{redis.log_entries():,} entries, medians of {rounds}\n")
    for name, values in rates.items():
        median = statistics.median(values)
        print(
            f"{name}: {median:,.0f} entries/s, {median / alone:.2f} of reading and decoding alone, "
            f"{peaks[name]:,.0f} MiB at most",
            flush=True,
        )


def fill(redis: BenchmarkRedis, entries: int) -> None:
    """A log of jobs that were submitted, claimed and completed."""
    redis.empty()
    while (left := entries - redis.log_entries()) > 0:
        jobs = min(QUEUED_AT_ONCE, max(1_000, left // EVENTS_PER_JOB))
        for what in ("submit", "work"):
            command = [sys.executable, str(PEER), what, redis.url, str(jobs)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)


def _of_its_own(way: str, url: str) -> dict[str, float]:
    """What a way takes in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.replay", "--way", way, "--url", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1_200)
    took: dict[str, float] = json.loads(done.stdout)
    return took


async def one(way: str, url: str) -> None:
    """Print what a way takes, in this process."""
    client = connect(url)
    store = EventStore(client, 1, Bounds())
    now_ms, entries = await clock_ms(store), sum(await log_lengths(store))
    began = time.perf_counter()
    await WAYS[way](store, now_ms)
    seconds = time.perf_counter() - began
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"entries": entries, "seconds": seconds, "peak_mib": peak_mib}))
    await client.aclose()


async def _decode(store: EventStore, _: int) -> None:
    after = "0-0"
    while raws := await read(store, 0, after, 1_000):
        after = [entry_of(raw) for raw in raws][-1].id


async def _state(store: EventStore, now_ms: int) -> None:
    state, notes = await state_at(store, now_ms)
    assert not notes
    assert state.waiting == state.running == 0


async def _incident(store: EventStore, now_ms: int) -> None:
    report, _ = await incident(store, 0, now_ms)
    assert report.ended == {"completed": report.submitted}


async def _whatif(store: EventStore, now_ms: int) -> None:
    recorded, _ = await workload(store, 0, now_ms)
    await asyncio.to_thread(compare, recorded, Crew(workers=4, concurrency=64, models=("noop",)))


async def _export(store: EventStore, now_ms: int, kind: type[JsonLines] | type[Parquet]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with kind(Path(folder) / "log", with_contents=False) as writer:
            await export(store, 0, now_ms, writer.write, with_contents=False)
        size = (Path(folder) / "log").stat().st_size
        print(f"{kind.__name__}: {size / writer.rows:.1f} bytes an entry", file=sys.stderr)


WAYS: dict[str, Callable[[EventStore, int], Awaitable[None]]] = {
    ALONE: _decode,
    "state": _state,
    "incident": _incident,
    "whatif": _whatif,
    "export to JSON Lines": lambda store, now_ms: _export(store, now_ms, JsonLines),
    "export to Parquet": lambda store, now_ms: _export(store, now_ms, Parquet),
}


if __name__ == "__main__":
    main()
