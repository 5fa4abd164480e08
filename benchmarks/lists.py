"""How long lists, queues, workers and usage take over HTTP with very many jobs in the store.

    python -m benchmarks.lists                  1,000,000 jobs: some eight minutes, most of them to fill
    python -m benchmarks.lists --jobs 50000     fewer

The jobs are of 8 queues, 6 models and 5 tenants and in every state, most of them completed; one model in
ten thousand jobs is a rare one. The views are folded as a rebuild folds them. Then a real `respool api`
is asked, one request at a time on one kept connection, while `respool projector` runs beside it; and once
more while 200 jobs a second go through the store.
"""

import argparse
import asyncio
import multiprocessing
import platform
import statistics
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from random import Random

import httpx

from benchmarks.latency import free_port
from benchmarks.roles import CHAT, now_ms, role
from benchmarks.server import BenchmarkRedis
from cli.loop import run as run_loop
from core import events
from core.events import (
    ErrorKind,
    JobError,
    JobEvent,
    Priority,
    Submitted,
    Timings,
    Usage,
    WorkerStarted,
)
from core.ids import RANDOM_BITS, job_id
from core.job import evolve
from core.records import Bounds
from core.redis import connect
from core.roster import Roster
from core.store import EventStore
from migrations.runner import migrate
from projections.building import build

JOBS = 1_000_000
REQUESTS = 300
FILLERS = 2
TASKS = 512  # In each process that fills.
QUEUES, MODELS, TENANTS, WORKERS = 8, 6, 5, 20
RARE_ONE_IN = 10_000
LOAD_PER_SECOND = 200
_WARM_UP = 20
_READY_SECONDS = 60.0
_BOUNDS = Bounds(waiting_max=10**9, scheduled_max=10**9, patience_seconds=60.0)
_STATES = {  # How many of 100,000 jobs.
    "completed": 90_490,
    "failed": 3_000,
    "cancelled": 2_500,
    "expired": 1_000,
    "queued": 2_000,
    "running": 10,
    "scheduled": 1_000,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many jobs the store has")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="how many of each call")
    arguments = parser.parse_args()
    with BenchmarkRedis() as redis:
        print(f"{platform.processor() or platform.machine()}, {redis.version}", flush=True)
        run_loop(_migrate(redis.url))
        began = time.perf_counter()
        _fill(redis.url, arguments.jobs)
        print(f"{arguments.jobs:,} jobs in {time.perf_counter() - began:.0f} s", flush=True)
        run_loop(_measure(redis, arguments.jobs, arguments.requests))


async def _migrate(redis_url: str) -> None:
    client = connect(redis_url)
    await migrate(client)
    store = EventStore(client, 1, _BOUNDS)
    models = tuple(_model(number) for number in range(MODELS))
    for number in range(WORKERS):
        started = WorkerStarted(
            capacity=8, queues=(), models=models, upstream="http://gpu:8000", host=f"gpu-{number}"
        )
        await Roster(store).record(_worker(number), started)
    await client.aclose()


def _fill(redis_url: str, jobs: int) -> None:
    shares = [range(first, jobs, FILLERS) for first in range(FILLERS)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(FILLERS, mp_context=context) as pool:
        list(pool.map(_fill_share, [redis_url] * FILLERS, shares))


def _fill_share(redis_url: str, numbers: range) -> None:
    async def fill() -> None:
        client = connect(redis_url)
        store = EventStore(client, 1, _BOUNDS)
        left = iter(numbers)

        async def some() -> None:
            for number in left:
                await _a_life(store, number)

        await asyncio.gather(*(some() for _ in range(TASKS)))
        await client.aclose()

    run_loop(fill())


async def _a_life(store: EventStore, number: int) -> None:
    """A job that is in its last state at once: one append for how it began, one for all that followed."""
    random = Random(number)
    [state] = random.choices(list(_STATES), list(_STATES.values()))
    submitted = Submitted(
        queue=f"queue-{random.randrange(QUEUES)}",
        model="rare" if number % RARE_ONE_IN == 0 else _model(random.randrange(MODELS)),
        tenant=f"tenant-{random.randrange(TENANTS)}",
        priority=random.choice(list(Priority)),
        request=CHAT,
        timeout_ms=60_000,
        attempts_max=3,
        delay_ms=3_600_000 if state == "scheduled" else 0,
        metadata={"user": f"user-{number % 1_000}"},
    )
    job = job_id(time.time_ns() // 1_000_000, random.getrandbits(RANDOM_BITS), 0)
    recorded = await store.submit(job, submitted)
    if rest := _rest_of(state, random):
        await store.append(job, evolve(None, submitted), rest)
    assert recorded.log_ids


def _rest_of(state: str, random: Random) -> tuple[JobEvent, ...]:
    claimed = events.Claimed(claim=1, attempt=1, worker=_worker(random.randrange(WORKERS)))
    match state:
        case "completed":
            used = Usage(prompt_tokens=20, completion_tokens=200, total_tokens=220)
            done = events.Completed(
                claim=1, attempt=1, result=CHAT, usage=used, timings=Timings(ran_ms=5)
            )
            return claimed, done
        case "failed":
            error = JobError(random.choice(list(ErrorKind)), "the model is out of memory")
            return claimed, events.Failed(error=error, attempts=1, deliveries=0)
        case "cancelled":
            return (events.Cancelled(by="benchmark"),)
        case "expired":
            return (events.Expired(deadline_ms=1),)
        case "running":
            return (claimed,)
        case _:
            return ()


def _model(number: int) -> str:
    return f"model:{number}b"


def _worker(number: int) -> str:
    return f"worker-{number}"


async def _measure(redis: BenchmarkRedis, jobs: int, requests: int) -> None:
    client = connect(redis.url)
    store = EventStore(client, 1, _BOUNDS)
    began = time.perf_counter()
    await build(store)
    gibibytes = redis.used_memory_bytes() / 2**30
    took = time.perf_counter() - began
    print(f"views built in {took:.0f} s; Redis uses {gibibytes:.2f} GiB\n", flush=True)
    port = free_port()
    with role("projector", redis.url), role("api", redis.url, API_PORT=str(port)):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            calls = await _calls(http, store)
            print("| call | idle: median ms | p99 ms | under load: median ms | p99 ms |")
            print("|---|---|---|---|---|")
            for name, path in calls.items():
                idle = await _milliseconds(http, path, requests)
                async with _load(store, jobs):
                    loaded = await _milliseconds(http, path, requests)
                print(f"| {name} | {_figures(idle)} | {_figures(loaded)} |", flush=True)
    await client.aclose()


async def _calls(http: httpx.AsyncClient, store: EventStore) -> dict[str, str]:
    """What is asked, by name."""
    await _until_answered(http)
    [first] = (await store.feed(0, "0-0", WORKERS + 1))[-1:]
    early_ms = first.at_ms + (await now_ms(store) - first.at_ms) // 20
    early = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(early_ms / 1_000))
    page = (await http.get(f"/v1/jobs?created_before={early}&limit=1")).json()
    [waiting] = (await http.get("/v1/jobs?status=queued&limit=1")).json()["jobs"]
    return {
        "jobs, no filter": "/v1/jobs",
        "jobs, limit=200": "/v1/jobs?limit=200",
        "jobs, one status": "/v1/jobs?status=failed",
        "jobs, status and queue": "/v1/jobs?status=failed&queue=queue-3",
        "jobs, all four marks": "/v1/jobs?status=failed&queue=queue-3&tenant=tenant-1&model=model:2b",
        "jobs, a rare model": "/v1/jobs?model=rare",
        "jobs, a rare combination": "/v1/jobs?model=rare&queue=queue-3&status=completed",
        "jobs, nothing matches": "/v1/jobs?model=never",
        "jobs, deep cursor": f"/v1/jobs?cursor={page['cursor']}",
        "jobs, deep cursor and status": f"/v1/jobs?status=failed&cursor={page['cursor']}",
        "a waiting job with its place": f"/v1/jobs/{waiting['id']}",
        "queues": "/v1/queues",
        "one queue": "/v1/queues/queue-3",
        "workers": "/v1/workers",
        "usage": "/v1/usage",
        "outcomes": "/v1/outcomes",
    }


async def _until_answered(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                if (await http.get("/healthz")).is_success:
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.05)


async def _milliseconds(http: httpx.AsyncClient, path: str, requests: int) -> list[float]:
    took = []
    for at in range(_WARM_UP + requests):
        began = time.perf_counter()
        answer = await http.get(path)
        if at >= _WARM_UP:
            took.append((time.perf_counter() - began) * 1_000)
        assert answer.status_code == 200, answer.text
    return sorted(took)


@asynccontextmanager
async def _load(store: EventStore, first: int) -> AsyncIterator[None]:
    """Jobs that come and end, so many a second, until the block ends."""

    async def come_and_end() -> None:
        number = first
        while True:
            batch = range(number, number + LOAD_PER_SECOND // 20)
            await asyncio.gather(*(_a_life(store, one) for one in batch))
            number = batch.stop
            await asyncio.sleep(0.05)

    coming = asyncio.create_task(come_and_end())
    try:
        yield
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _figures(sorted_ms: list[float]) -> str:
    return f"{statistics.median(sorted_ms):.1f} | {sorted_ms[int(len(sorted_ms) * 0.99)]:.1f}"


if __name__ == "__main__":
    main()
