"""Respool itself, by the same stopwatch: every transition an event, no-op jobs through a real worker."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from msgspec import Raw
from stopwatch import REQUEST, RESULT, SUBMITTERS, Backlog, Timed, Way, main, submit_from_tasks

from cli.loop import run as run_loop
from cli.roles.worker import spans_of
from cli.telemetry import exporting_spans
from cli.watching import watching
from consumers.execute import LossLimits, Waited
from consumers.stop import Stop
from consumers.upstream.base import Answer, Call
from consumers.worker import Identity, Worker
from core.bells import Bells
from core.commands import RecoveryPolicy
from core.events import Submitted
from core.ids import RANDOM_BITS, job_id
from core.records import Bounds
from core.redis import connect
from core.settings import LogFormat, LogLevel, Settings
from core.store import EventStore
from migrations.runner import migrate

CONCURRENCY = 128
LEASE_SECONDS = 30
WARM_UP_JOBS = 5_000
JOBS_MAX = 10_000_000
MODEL = "noop"


def submit(redis_url: str, jobs: int) -> Timed:
    return run_loop(submit_jobs(redis_url, jobs))


async def submit_jobs(redis_url: str, jobs: int, level: LogLevel | None = None) -> Timed:
    client = connect(redis_url)
    await migrate(client)
    store = EventStore(client, 1, Bounds(waiting_max=JOBS_MAX))
    request = Raw(f'"{REQUEST}"'.encode())
    numbers, now_ms = iter(range(jobs)), time.time_ns() // 1_000_000

    async def send() -> None:
        submitted = Submitted(
            queue="default",
            model=MODEL,
            tenant="default",
            request=request,
            timeout_ms=60_000,
            attempts_max=3,
        )
        await store.submit(job_id(now_ms, next(numbers) % 2**RANDOM_BITS, 0), submitted)

    async with _watched(store, level):
        timed = await submit_from_tasks(jobs, send)
    await client.aclose()
    return timed


@asynccontextmanager
async def _watched(store: EventStore, level: LogLevel | None) -> AsyncIterator[Waited | None]:
    """Have it counted and logged as in a role's process with that LOG_LEVEL, if there is one."""
    if level is None:
        yield None
        return
    settings = Settings(log_format=LogFormat.JSON, log_level=level)
    async with watching(store, settings) as figures:
        yield figures.waited


class NoOp:
    """An upstream that answers at once, and streams nothing."""

    address = "noop:"

    def __init__(self, backlog: Any) -> None:
        self._backlog = backlog

    async def models(self) -> frozenset[str]:
        return frozenset({MODEL})

    async def stream(self, _: Call) -> AsyncGenerator[Answer, None]:
        self._backlog.run_job()
        yield Answer(f'"{RESULT}"'.encode(), None)

    async def aclose(self) -> None:
        pass


def work(redis_url: str, jobs: int) -> Timed:
    return run_loop(work_jobs(redis_url, jobs))


async def work_jobs(redis_url: str, jobs: int, level: LogLevel | None = None) -> Timed:
    backlog = Backlog(
        redis_url, jobs, unfinished=f"XLEN respool:{{0}}:ready:normal:default:{MODEL}"
    )
    async with a_worker(redis_url, NoOp(backlog), level) as worker:
        return await backlog.time_task(worker.run(Stop()))


def work_some(redis_url: str, jobs: int) -> None:
    """Print the jobs/s over `jobs` jobs of a longer backlog, once the worker is warm."""

    async def run() -> float:
        some = Some(jobs)
        async with a_worker(redis_url, NoOp(some)) as worker:
            working = asyncio.ensure_future(worker.run(Stop()))
            seconds = await some.seconds
            working.cancel()
            await asyncio.wait({working})
        return jobs / seconds

    print(run_loop(run()))


class Some:
    """Times jobs by their starts: from number WARM_UP_JOBS on, as many as are asked for."""

    def __init__(self, jobs: int) -> None:
        self._numbers = count(1)
        self._jobs = jobs
        self._started = 0.0
        self.seconds: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def run_job(self) -> None:
        number = next(self._numbers)
        if number == WARM_UP_JOBS:
            self._started = time.perf_counter()
        elif number == WARM_UP_JOBS + self._jobs:
            self.seconds.set_result(time.perf_counter() - self._started)


@asynccontextmanager
async def a_worker(
    redis_url: str, upstream: Any, level: LogLevel | None = None
) -> AsyncIterator[Worker]:
    client, lease_client = connect(redis_url), connect(redis_url)
    store = EventStore(client, 1, Bounds(patience_seconds=LEASE_SECONDS))
    identity = Identity(
        name=f"benchmark-{time.time_ns()}",
        host="benchmark",
        concurrency=CONCURRENCY,
        queues=(),
        lease_seconds=LEASE_SECONDS,
        grace_seconds=LEASE_SECONDS,
    )
    limits = LossLimits(deliveries_max=5, recovery_policy=RecoveryPolicy.REQUEUE)
    with exporting_spans("benchmark") as tracer:
        spans = spans_of(tracer, identity, upstream)
        bells = Bells(client)
        async with _watched(store, level) as waited:
            yield Worker(identity, store, lease_client, bells, upstream, limits, spans, waited)
    await client.aclose()
    await lease_client.aclose()


if __name__ == "__main__":
    if sys.argv[1] == "work-some":
        work_some(sys.argv[2], int(sys.argv[3]))
    else:
        main(
            "respool",
            submit=Way(submit, f"{SUBMITTERS} tasks"),
            work=Way(work, f"WORKER_CONCURRENCY={CONCURRENCY}"),
        )
