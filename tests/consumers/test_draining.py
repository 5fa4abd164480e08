"""Workers that are told to stop: they finish what fits, give back the rest, and spend nothing."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.events import AttemptLost, Claimed, LostBecause
from core.log import tag_of
from core.records import Bounds
from core.redis import connect
from core.states import Completed, Lane, Queued, Running
from core.store import EventStore
from migrations.runner import migrate
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.consumers.workers import (
    ENDLESS,
    LEASE_SECONDS,
    StartWorker,
    claimed_by_another,
    streaming,
)
from tests.given import a_job
from tests.processes import Process
from tests.servers import RedisServer, valkey
from tests.store.audit import audit


async def test_a_worker_that_is_told_to_stop_finishes_what_it_has(
    store: EventStore, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = await a_job(store)
    await streaming(store, job)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert await types_of(store, job) == ["submitted", "claimed", "completed"]
    late = await a_job(store)
    assert await types_of(store, late) == ["submitted"]


async def test_when_its_grace_is_over_a_worker_gives_back_and_spends_no_delivery(
    server: RedisServer, store: EventStore, start_worker: StartWorker
) -> None:
    worker = start_worker("echo://?latency_ms=60000", SHUTDOWN_GRACE_SECONDS="0")
    job = await a_job(store)
    await claimed_by_another(store, job, [])
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    given_back = (await store.require(job)).job
    assert (given_back.attempts, given_back.lost_workers) == (0, ())
    event = (await store.history(job))[-1].event
    assert isinstance(event, AttemptLost)
    assert event.why is LostBecause.DRAINED
    async with a_worker(server, Scripted()):
        await ended(store, job)


async def test_what_is_given_back_is_the_next_to_run(
    server: RedisServer, store: EventStore, start_worker: StartWorker
) -> None:
    worker = start_worker(ENDLESS, WORKER_CONCURRENCY="1", SHUTDOWN_GRACE_SECONDS="0")
    given_back = await a_job(store)
    await claimed_by_another(store, given_back, [])
    waiting = await a_job(store)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    job = (await store.require(given_back)).job
    assert isinstance(job, Queued)
    assert job.lane is Lane.FRONT
    async with a_worker(server, Scripted(), concurrency=1):
        for one in (given_back, waiting):
            await ended(store, one)
    again, later = [
        [entry.sequence for entry in await store.history(one) if isinstance(entry.event, Claimed)]
        for one in (given_back, waiting)
    ]
    assert again[-1] < later[0]
    await audit(store)


async def test_a_second_sigterm_gives_all_back_now(
    store: EventStore, start_worker: StartWorker
) -> None:
    worker = start_worker(ENDLESS, SHUTDOWN_GRACE_SECONDS="600")
    jobs = [await a_job(store) for _ in range(3)]
    for job in jobs:
        await claimed_by_another(store, job, [])
    worker.send(signal.SIGTERM)
    async with asyncio.timeout(20):
        while "3 jobs are finished first" not in worker.output:
            await asyncio.sleep(0.01)
    assert all([isinstance((await store.require(job)).job, Running) for job in jobs])
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    for job in jobs:
        await was_given_back(store, job)
    await audit(store)


async def was_given_back(store: EventStore, job: str) -> None:
    head = await store.require(job)
    assert isinstance(head.job, Queued)
    assert (head.job.attempts, head.job.lost_workers) == (0, ())
    event = (await store.history(job))[-1].event
    assert isinstance(event, AttemptLost)
    assert event.why is LostBecause.DRAINED


async def test_nothing_is_claimed_once_a_worker_was_told_to_stop(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream, concurrency=2) as (_, stop):
        jobs = [await a_job(store) for _ in range(5)]
        for _ in range(2):
            await upstream.calls.get()
        stop.ask()
        upstream.gate.set()
    assert upstream.calls.empty()
    states = [type((await store.require(job)).job) for job in jobs]
    assert states == [Completed, Completed, Queued, Queued, Queued]


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, EventStore]]:
    """A server of the test's own, which keeps what it has on disk, and its store."""
    server = valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    client = connect(server.url)
    await migrate(client)
    yield server, EventStore(client, 1, Bounds())
    await client.aclose()
    server.stop()


@pytest.mark.parametrize("is_frozen", [False, True], ids=["gone", "frozen"])
async def test_a_drain_while_redis_is_away_ends_and_loses_nothing(
    mortal: tuple[RedisServer, EventStore], start_worker: StartWorker, is_frozen: bool
) -> None:
    server, store = mortal
    settings = {"REDIS_URL": server.url, "SHUTDOWN_GRACE_SECONDS": "1", "LEASE_SECONDS": "10"}
    worker = start_worker(ENDLESS, **settings)
    job = await a_job(store)
    await claimed_by_another(store, job, [])
    if is_frozen:
        server.send(signal.SIGSTOP)
    else:
        server.stop()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.output
    assert "Traceback" not in worker.output
    if is_frozen:
        server.send(signal.SIGCONT)
    else:
        server.start()
    async with a_worker(server, Scripted(), lease_seconds=LEASE_SECONDS):
        assert isinstance(await ended(store, job), Completed)
    await audit(store)


@pytest.mark.parametrize("grace_seconds", ["0", "30"], ids=["given back", "finished"])
async def test_rolling_restarts_under_load_spend_nothing_and_every_job_ends_once(
    store: EventStore, start_worker: StartWorker, grace_seconds: str
) -> None:
    def start() -> Process:
        settings = {"LEASE_SECONDS": "30", "SHUTDOWN_GRACE_SECONDS": grace_seconds}
        return start_worker("echo://?tokens=10&tokens_per_second=40", **settings)

    workers = [start() for _ in range(3)]
    async with load(store) as jobs:
        await runs_one_of(store, jobs, workers[0])
        for _ in range(2):
            for at, worker in enumerate(workers):
                await worker.until_begun()
                worker.send(signal.SIGTERM)
                assert await asyncio.to_thread(worker.wait) == 0, worker.output
                workers[at] = start()
    for job in jobs:
        assert isinstance(await ended(store, job), Completed)
    for worker in workers:
        worker.send(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) == 0, worker.output
    told: Counter[str] = Counter()
    for job in jobs:
        history = await store.history(job)
        lost = [entry.event for entry in history if isinstance(entry.event, AttemptLost)]
        assert {event.why for event in lost} <= {LostBecause.DRAINED}
        told.update(tag_of(entry.event) for entry in history)
    assert told["completed"] == len(jobs)
    assert told["attempt_failed"] == told["failed"] == 0
    assert told["claimed"] == told["completed"] + told["attempt_lost"]
    assert (told["attempt_lost"] > 0) == (grace_seconds == "0")
    heads = await audit(store)
    assert {head.job.lost_workers for head in heads.values()} == {()}


async def runs_one_of(store: EventStore, jobs: list[str], worker: Process) -> None:
    """Wait until a worker runs one of the newest jobs."""
    async with asyncio.timeout(30):
        while True:
            heads = await store.load_many(jobs[-100:])
            running = [head.job.worker for head in heads if head and isinstance(head.job, Running)]
            if any(f"-{worker.pid}-" in name for name in running):
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def load(store: EventStore) -> AsyncIterator[list[str]]:
    """Jobs that keep coming, about as many as three workers can run, until the block ends."""
    jobs = [await a_job(store)]

    async def submit() -> None:
        while True:
            jobs.append(await a_job(store))
            await asyncio.sleep(0.025)

    submitting = asyncio.create_task(submit())
    try:
        yield jobs
    finally:
        submitting.cancel()
