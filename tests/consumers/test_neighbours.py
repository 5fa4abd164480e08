"""What goes wrong with one job, one head or one worker stays there."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec import Raw
from redis.asyncio import Redis

from consumers.claims import Claims
from consumers.upstream.base import Answer, Call, Chunk, UpstreamError
from core.batching import Batcher
from core.commands import Cancel
from core.errors import StoreUnavailable
from core.events import ErrorKind, Priority, WorkerStarted
from core.fleet import WorkerStatus
from core.keys import LaneName
from core.records import Bounds
from core.redis import connect
from core.roster import Heartbeat, Roster
from core.states import Cancelled, Completed, Failed, Lane, Queued, Running
from core.store import EventStore
from core.timers import Timers
from migrations.runner import migrate
from tests.conftest import OpenStore
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.consumers.test_recovery import LEASE_SECONDS, a_recovery, take
from tests.given import a_job, new_id, submitted
from tests.releases.newer import is_newer, subject_is_newer
from tests.servers import RedisServer, running, valkey
from tests.store.audit import audit


class Fragile(Scripted):
    """An upstream whose adapter has a defect that one request brings out."""

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        if b"boom" in bytes(call.request):
            raise RecursionError("nested too deeply")
        async for item in super().stream(call):
            yield item


async def test_a_request_that_an_adapter_cannot_handle_fails_alone(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Fragile(is_open=False)
    async with a_worker(server, upstream, concurrency=4):
        good = await a_job(store)
        await upstream.calls.get()
        bad = await a_job(store, request=Raw(b'{"messages":["boom"]}'), attempts_max=1)
        assert isinstance(await ended(store, bad), Failed)
        upstream.gate.set()
        assert isinstance(await ended(store, good), Completed)
    assert await types_of(store, good) == ["submitted", "claimed", "completed"]


async def test_a_head_of_a_newer_release_is_passed_over_by_worker_recovery_and_timers(
    server: RedisServer, open_store: OpenStore
) -> None:
    store = await open_store(shards=2)
    newer = [await a_job(store), await a_job(store, delay_ms=1)]
    held = await a_job(store)
    await take(store, "dead", 2)
    for job in newer:
        await is_newer(store, job, readable=False)
    other_shard = await a_job(store, shard=1, delay_ms=1)
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    await a_recovery(store).recover()
    assert isinstance((await store.require(held)).job, Queued)
    await Timers(store).fire_due()
    assert isinstance((await store.require(other_shard)).job, Queued)
    async with a_worker(server, Scripted(), shards=2):
        for job in (held, other_shard, await a_job(store)):
            await ended(store, job)


async def test_a_head_that_vanished_ends_nobody_s_worker(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream):
        gone = await a_job(store)
        await upstream.calls.get()
        await store.client.delete(store.shards[0].head(gone))
        upstream.gate.set()
        assert isinstance(await ended(store, await a_job(store)), Completed)


async def test_a_full_redis_lets_workers_start_and_finish_what_there_is(
    server: RedisServer, store: EventStore
) -> None:
    job = await a_job(store)
    await store.client.config_set("maxmemory", "1")
    assert await migrate(store.client) == []
    async with a_worker(server, Scripted()):
        assert isinstance(await ended(store, job), Completed)
    [member] = await Roster(store).members()
    assert member.worker.status is WorkerStatus.STOPPED
    await store.client.config_set("maxmemory", "0")


async def test_a_job_that_comes_back_while_its_old_attempt_closes_is_a_job_of_its_own(
    server: RedisServer, store: EventStore
) -> None:
    class SlowToClose(Scripted):
        async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
            try:
                async for item in super().stream(call):
                    yield item
            finally:
                await asyncio.shield(asyncio.sleep(0.5))
                first_has_closed.set()

    first_has_closed = asyncio.Event()
    upstream = SlowToClose(is_open=False)
    async with a_worker(server, upstream, grace_seconds=0.1) as (worker, stop):
        job = await a_job(store)
        await upstream.calls.get()
        head = await store.require(job)
        assert isinstance(head.job, Running)
        # Another worker believes that the lease ran out, and gives the job back.
        name = store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo"))
        await store.client.xclaim(name, "workers", "w2", 0, [head.entry or ""], justid=True)
        recovery = a_recovery(store, "w2")
        await asyncio.sleep(LEASE_SECONDS + 0.05)
        await recovery.recover()
        await upstream.calls.get()
        await first_has_closed.wait()
        await asyncio.sleep(0.05)  # Its task has ended by now; the second one runs.
        assert len(worker.leases) == 1
        stop.ask()
        async with asyncio.timeout(5):
            while isinstance((await store.require(job)).job, Running):
                await asyncio.sleep(0.01)
    assert isinstance((await store.require(job)).job, Queued)
    await audit(store)


async def test_a_worker_that_dies_with_nothing_in_hand_is_reported_lost(
    store: EventStore,
) -> None:
    roster = Roster(store)
    await roster.beat("w1", Heartbeat(running=0, models=("echo",)), expires_ms=50)
    started = WorkerStarted(capacity=1, queues=(), models=("echo",), upstream="x", host="h")
    await roster.record("w1", started)
    recovery = a_recovery(store)
    await recovery.look()
    assert [member.worker.status for member in await roster.members()] == [WorkerStatus.STARTED]
    await asyncio.sleep(0.1)
    await recovery.look()
    assert [member.worker.status for member in await roster.members()] == [WorkerStatus.LOST]


async def test_after_an_outage_no_worker_is_taken_for_lost_before_it_could_say_that_it_lives(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.recovery.OUTAGE_MS_MIN", 100)
    roster, recovery = Roster(store), a_recovery(store)
    started = WorkerStarted(capacity=1, queues=(), models=("echo",), upstream="x", host="h")
    for name in ("alive", "dead"):
        await roster.record(name, started)
        await roster.beat(name, Heartbeat(running=0, models=("echo",)), expires_ms=100)
    await recovery.look()
    await asyncio.sleep(0.25)  # Nobody can look, and heartbeats expire.
    await recovery.look()
    statuses = {member.name: member.worker.status for member in await roster.members()}
    assert set(statuses.values()) == {WorkerStatus.STARTED}
    await roster.beat("alive", Heartbeat(running=0, models=("echo",)), expires_ms=60_000)
    async with asyncio.timeout(10):
        while statuses["dead"] is not WorkerStatus.LOST:
            await recovery.look()
            statuses = {member.name: member.worker.status for member in await roster.members()}
    assert statuses["alive"] is WorkerStatus.STARTED


async def test_a_worker_of_a_newer_release_is_passed_over_by_recovery_and_roster(
    store: EventStore,
) -> None:
    roster = Roster(store)
    started = WorkerStarted(capacity=1, queues=(), models=("echo",), upstream="x", host="h")
    for name in ("newer", "ours"):
        await roster.record(name, started)
    await subject_is_newer(store, store.shards[0].head("worker:newer"), readable=False)
    held = await a_job(store)
    await take(store, "dead", 1)
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    await a_recovery(store).look()
    assert isinstance((await store.require(held)).job, Queued)
    assert [member.name for member in await roster.members()] == ["ours"]


async def test_low_priority_moves_on_every_shard(open_store: OpenStore) -> None:
    store = await open_store(shards=4, waiting_max=10_000)
    low = [await a_job(store, shard=shard, priority=Priority.LOW) for shard in range(4)]
    for n in range(600):
        await a_job(store, shard=n % 4)
    claims = Claims(store, "w1", (), lambda: {"echo"})
    taken = {delivery.job_id for _ in range(80) for delivery in await claims.take(1)}
    assert taken >= set(low)


async def test_left_over_entries_do_not_hide_the_jobs_behind_them(store: EventStore) -> None:
    gone = [await a_job(store) for _ in range(5)]
    live = await a_job(store)
    for job in gone:
        await store.client.delete(store.shards[0].head(job))
    claims = Claims(store, "w1", (), lambda: {"echo"})
    assert [delivery.job_id for delivery in await claims.take(2)] == [live]


async def test_more_queues_than_a_lua_call_takes_arguments_stop_nobody(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    names = [f"front:q{n}:echo" for n in range(9_000)]
    await store.client.sadd(store.shards[0].lanes, *names)
    assert await Claims(store, "w1", (), lambda: {"echo"}).take(1) == []


async def test_patience_counts_from_the_call_however_many_wait(tmp_path: Path) -> None:
    with running(valkey(tmp_path)) as own:
        client = connect(own.url)
        await migrate(client)
        store = EventStore(client, 1, Bounds(patience_seconds=0.5))
        own.send(signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcomes = await asyncio.gather(
            *(store.submit(new_id(), submitted()) for _ in range(300)), return_exceptions=True
        )
        assert loop.time() - started < 3
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        own.send(signal.SIGCONT)
        await client.aclose()


async def test_too_many_waiting_calls_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.batching.WAITING_MAX", 3)
    gate = asyncio.Event()

    async def call(items: list[int]) -> list[int]:
        await gate.wait()
        return items

    batcher: Batcher[int, int] = Batcher(call, lambda _: 1, patience_seconds=5.0)
    replies = [batcher.send(n) for n in range(5)]
    gate.set()
    outcomes = await asyncio.gather(*replies, return_exceptions=True)
    assert outcomes[:3] == [0, 1, 2]
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes[3:])


async def test_a_cancel_right_after_the_claim_does_not_wait_for_the_next_renewal(
    server: RedisServer, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = EventStore.append

    async def cancelled_at_once(self: EventStore, job_id: str, *arguments: object) -> object:
        recorded = await append(self, job_id, *arguments)  # type: ignore[arg-type]
        if isinstance(recorded.job, Running) and recorded.job.cancel_by is None:
            await store.execute(job_id, Cancel("me"))
            await asyncio.sleep(0.1)  # The bell has rung by now.
        return recorded

    async with a_worker(server, Scripted(is_open=False), lease_seconds=30) as (worker, _):
        monkeypatch.setattr(worker._store, "append", cancelled_at_once.__get__(worker._store))
        job = await a_job(store)
        async with asyncio.timeout(5):
            assert isinstance(await ended(store, job), Cancelled)


async def test_a_redis_that_wants_replicas_is_waited_for(
    server: RedisServer, store: EventStore, client: Redis
) -> None:
    async with a_worker(server, Scripted()):
        await client.config_set("min-replicas-to-write", "1")
        await asyncio.sleep(0.5)
        await client.config_set("min-replicas-to-write", "0")
        assert isinstance(await ended(store, await a_job(store)), Completed)


async def test_a_server_that_is_away_costs_the_waiting_jobs_nothing(
    server: RedisServer, store: EventStore
) -> None:
    class Restarting(Scripted):
        is_away = False

        async def models(self) -> frozenset[str]:
            if self.is_away:
                raise UpstreamError(ErrorKind.CONNECT, "connection refused")
            return await super().models()

        async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
            if self.is_away:
                raise UpstreamError(ErrorKind.CONNECT, "connection refused")
            async for item in super().stream(call):
                yield item

    upstream = Restarting()
    async with a_worker(server, upstream, concurrency=2):
        upstream.is_away = True
        jobs = [await a_job(store, attempts_max=2) for _ in range(12)]
        await asyncio.sleep(2.5)  # Long enough for two attempts of each, if they were made.
        upstream.is_away = False
        for job in jobs:
            assert isinstance(await ended(store, job), Completed)
    failed = [(await types_of(store, job)).count("attempt_failed") for job in jobs]
    assert sum(failed) <= 2  # Those that found out.
