"""What a worker does with a job: claim, stream, complete, retry, cancel, and in which order."""

import asyncio
from contextlib import suppress

from msgspec import Raw

from consumers.upstream.base import UpstreamError
from core.commands import Cancel
from core.events import Completed, ErrorKind, Priority, Usage
from core.events import Failed as FailedEvent
from core.job import CommandRefused
from core.output import read_output
from core.roster import Roster
from core.states import Cancelled, Expired, Failed, Queued
from core.states import Completed as CompletedState
from core.store import EventStore
from tests.conftest import OpenStore
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import a_job
from tests.servers import RedisServer
from tests.store.audit import audit


async def test_a_job_is_claimed_run_and_completed(server: RedisServer, store: EventStore) -> None:
    upstream = Scripted()
    async with a_worker(server, upstream):
        job = await a_job(store)
        assert isinstance(await ended(store, job), CompletedState)
    submitted, claimed, completed = await store.history(job)
    assert isinstance(completed.event, Completed)
    assert bytes(completed.event.result) == b'{"said":"hello"}'
    assert completed.event.usage == Usage(1, 2, 3)
    assert completed.event.timings.first_token_ms is not None
    assert submitted.at_ms <= claimed.at_ms <= completed.at_ms
    assert [chunk.id for chunk in await read_output(store, job)] == ["1-1"]
    await audit(store)


async def test_a_job_that_waited_before_the_worker_came_is_run(
    server: RedisServer, open_store: OpenStore
) -> None:
    store = await open_store(shards=4)
    jobs = [await a_job(store, shard=n % 4) for n in range(20)]
    async with a_worker(server, Scripted(), shards=4):
        for job in jobs:
            assert isinstance(await ended(store, job), CompletedState)


async def test_no_more_jobs_run_at_once_than_there_are_slots(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    jobs = [await a_job(store) for _ in range(6)]
    async with a_worker(server, upstream, concurrency=2):
        for _ in range(2):
            await upstream.calls.get()
        upstream.gate.set()
        for job in jobs:
            await ended(store, job)
    assert upstream.running_max == 2


async def test_urgent_jobs_come_first(server: RedisServer, store: EventStore) -> None:
    upstream = Scripted()
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        request = Raw(f'{{"messages":["{priority}"]}}'.encode())
        jobs = [await a_job(store, priority=priority, request=request) for _ in range(2)]
    async with a_worker(server, upstream, concurrency=1):
        for job in jobs:
            await ended(store, job)
        order = [bytes((await upstream.calls.get()).request) for _ in range(6)]
    assert [b"high" in order[0], b"high" in order[1]] == [True, True]
    assert b"low" in order[-1]


async def test_only_the_queues_and_models_that_it_serves_are_claimed(
    server: RedisServer, store: EventStore
) -> None:
    other_queue = await a_job(store, queue="batch")
    other_model = await a_job(store, model="llama")
    mine = await a_job(store)
    async with a_worker(server, Scripted(), queues=("default",)):
        await ended(store, mine)
    for job in (other_queue, other_model):
        assert isinstance((await store.require(job)).job, Queued)


async def test_a_failed_attempt_is_tried_again_after_its_backoff(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted()
    upstream.errors = [UpstreamError(ErrorKind.OVERLOAD, "busy")]
    async with a_worker(server, upstream):
        job = await a_job(store)
        await ended(store, job)
    assert await types_of(store, job) == [
        "submitted",
        "claimed",
        "attempt_failed",
        "queued",
        "claimed",
        "completed",
    ]


async def test_what_cannot_be_mended_fails_at_once_and_says_why(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted()
    upstream.errors = [UpstreamError(ErrorKind.BAD_REQUEST, "no such parameter")]
    async with a_worker(server, upstream):
        job = await a_job(store)
        assert isinstance(await ended(store, job), Failed)
    event = (await store.history(job))[-1].event
    assert isinstance(event, FailedEvent)
    assert event.error.message == "no such parameter"


async def test_an_attempt_that_takes_too_long_is_stopped(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream):
        job = await a_job(store, timeout_ms=100, attempts_max=1)
        assert isinstance(await ended(store, job), Failed)
    assert upstream.closed == 1


async def test_a_cancelled_job_s_request_is_closed(server: RedisServer, store: EventStore) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream, lease_seconds=30):
        job = await a_job(store)
        await upstream.calls.get()
        await store.execute(job, Cancel("me"))
        assert isinstance(await ended(store, job), Cancelled)
    assert upstream.closed == 1
    assert await types_of(store, job) == ["submitted", "claimed", "cancel_requested", "cancelled"]


async def test_a_job_past_its_deadline_is_expired_and_not_run(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted()
    job = await a_job(store, deadline_ms=1)
    await asyncio.sleep(0.01)
    async with a_worker(server, upstream):
        assert isinstance(await ended(store, job), Expired)
    assert upstream.calls.empty()


async def test_a_worker_tells_the_log_when_it_starts_drains_and_stops(
    server: RedisServer, store: EventStore
) -> None:
    async with a_worker(server, Scripted()) as (worker, _):
        [member] = await Roster(store).members()
        assert member.name == worker.identity.name
        assert member.models == {"echo"}
        assert member.heartbeat is not None
    log = [entry for entry in await store.feed(0, "0-0") if entry.subject.startswith("worker:")]
    assert [str(entry.event.__struct_config__.tag) for entry in log] == [
        "worker_started",
        "worker_draining",
        "worker_stopped",
    ]


async def test_the_whole_store_agrees_with_its_log_after_a_busy_time(
    server: RedisServer, open_store: OpenStore
) -> None:
    store = await open_store(shards=2)
    upstream = Scripted()
    upstream.errors = [UpstreamError(ErrorKind.SERVER_ERROR, "no") for _ in range(5)]
    async with (
        a_worker(server, upstream, shards=2, concurrency=8),
        a_worker(server, upstream, shards=2, concurrency=8),
    ):
        jobs = [await a_job(store, shard=n % 2, attempts_max=1) for n in range(100)]
        for job in jobs[::10]:
            with suppress(CommandRefused):  # It may have ended.
                await store.execute(job, Cancel("me"))
        for job in jobs:
            await ended(store, job)
    await audit(store)
