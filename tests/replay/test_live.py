"""Verify and repair while jobs go on: nothing is found that is not wrong, and what is wrong is found."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from consumers.upstream.echo import EchoUpstream
from core.commands import Cancel
from core.errors import QueueFull
from core.job import CommandRefused
from core.keys import LaneName
from core.records import Bounds
from core.redis import connect
from core.states import Completed, Lane, Running
from core.store import EventStore
from core.timers import run_timers
from projections.checkpoint import Held, View
from projections.generations import serving
from projections.projector import Projector
from projections.replay.repair import repair
from projections.replay.views import HOLD_MS, hold
from projections.runner import Runner
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import a_job
from tests.processes import respool
from tests.projections.views import catch_up
from tests.replay.worlds import findings, some_of_everything
from tests.servers import RedisServer

ROUNDS = 3


class Traffic:
    """What goes on: jobs are submitted, worked off, cancelled and projected."""

    def __init__(self) -> None:
        self.submitted = 0
        self.jobs: list[str] = []


async def _submit(store: EventStore, traffic: Traffic, random: Random) -> None:
    while True:
        changes: dict[str, Any] = {
            "delay_ms": random.choice([0, 0, 0, 5, 60_000]),
            "deadline_ms": random.choice([None, None, 20, 60_000]),
            "queue": random.choice(["default", "batch"]),
        }
        try:
            job = await a_job(store, random.randrange(len(store.shards)), **changes)
            traffic.submitted += 1
            traffic.jobs.append(job)
            if random.random() < 0.1:
                await store.execute(random.choice(traffic.jobs[-50:]), Cancel("somebody"))
        except (QueueFull, CommandRefused):
            pass
        await asyncio.sleep(0.001)


@asynccontextmanager
async def traffic(server: RedisServer, store: EventStore) -> AsyncIterator[Traffic]:
    """Two workers, a projector, timers and somebody who submits, for as long as the block lasts."""
    going_on = Traffic()
    client = connect(server.url)
    others = EventStore(client, len(store.shards), Bounds(waiting_max=200))
    upstream = EchoUpstream("echo://?latency_ms=5")
    shards = len(store.shards)
    tasks: list[Coroutine[Any, Any, None]] = [
        _submit(others, going_on, Random(1)),
        run_timers(others),
        Projector(others, batch_entries=50).run(),
    ]
    async with (
        a_worker(server, upstream, shards=shards, concurrency=4, lease_seconds=5),
        a_worker(server, upstream, shards=shards, concurrency=4, lease_seconds=5),
    ):
        running = [asyncio.create_task(task) for task in tasks]
        try:
            yield going_on
        finally:
            for task in running:
                task.cancel()
            outcomes = await asyncio.gather(*running, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in outcomes), outcomes
    await client.aclose()


async def _busy(going_on: Traffic, jobs: int) -> None:
    until = going_on.submitted + jobs
    async with asyncio.timeout(60):
        while going_on.submitted < until:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_store_under_load_is_as_its_log_says(
    server: RedisServer, open_store: Any, shards: int
) -> None:
    store = await open_store(shards=shards)
    async with traffic(server, store) as going_on:
        for _ in range(ROUNDS):
            before = going_on.submitted
            await _busy(going_on, 150)
            assert await findings(store) == []
            assert going_on.submitted > before + 150  # It went on meanwhile.
        at = (await (await serving(store)).view(store, 0).checkpoint()).sequence
        await _busy(going_on, 50)
        async with asyncio.timeout(20):  # And so did the views, which were held.
            while (await (await serving(store)).view(store, 0).checkpoint()).sequence == at:
                await asyncio.sleep(0.02)
    await catch_up(store)
    assert await findings(store) == []


async def test_what_is_wrong_is_found_and_mended_under_load(
    server: RedisServer, store: EventStore
) -> None:
    async with traffic(server, store) as going_on:
        await _busy(going_on, 100)
        waiting = [await a_job(store, queue="other", model="none") for _ in range(4)]
        keys, client = store.shards[0], store.client
        view = (await serving(store)).view(store, 0)
        async with asyncio.timeout(20):
            while len(await view.rows(waiting)) < len(waiting):
                await asyncio.sleep(0.02)
        lane = keys.ready(LaneName(Lane.NORMAL, "other", "none"))
        await client.hset(keys.head(waiting[0]), "tenant", "mallory")
        await client.xdel(lane, (await store.require(waiting[1])).entry or "")
        await client.zadd(keys.timers, {f"{waiting[2]}:due": 4_000_000_000_000})
        await client.hincrby(keys.counts, "waiting:default", 7)
        await client.hincrby(view.keys.named("depths"), "other:waiting.normal", 1)
        found = await findings(store)
        assert len(found) == 5, found
        named = ("tenant", waiting[1], waiting[2], "count waiting:default", "depths")
        assert all(any(name in one for one in found) for name in named), found
        repaired = await repair(store)
        assert len(repaired.mended) == 5
        assert not repaired.report.findings
        await _busy(going_on, 50)
        assert await findings(store) == []


async def test_a_view_goes_on_when_the_verify_that_held_it_is_gone(store: EventStore) -> None:
    """Killed, it lets go of nothing."""
    await a_job(store)
    view = (await serving(store)).view(store, 0)
    await hold(store, view, HOLD_MS)
    runner = Runner(store, view)
    with pytest.raises(Held) as refused:
        await runner.advance()
    assert refused.value.seconds <= HOLD_MS / 1_000
    async with asyncio.timeout(20):
        while True:
            try:
                assert await runner.advance() == 1
                break
            except Held as held:
                await asyncio.sleep(held.seconds)
    assert await findings(store) == []


async def test_a_verify_that_is_killed_while_it_holds_a_view_stops_nobody_for_longer(
    server: RedisServer, store: EventStore, tmp_path: Path
) -> None:
    await some_of_everything(store, jobs=200)
    await a_job(store)
    view = (await serving(store)).view(store, 0)
    async with asyncio.timeout(60):
        while not await _killed_in_its_hold(server, store, view, tmp_path / "verify.log"):
            pass
    runner = Runner(store, view)
    with pytest.raises(Held) as refused:
        await runner.advance()
    assert refused.value.seconds <= HOLD_MS / 1_000
    await asyncio.sleep(refused.value.seconds)  # As a projector does.
    assert await runner.advance() == 1
    assert await findings(store) == []


async def _killed_in_its_hold(
    server: RedisServer, store: EventStore, view: View, log: Path
) -> bool:
    """Kill a verify while it holds the view; False if it let go just before that."""
    with respool(log, "replay", "verify", REDIS_URL=server.url) as verifying:
        while not await _is_held(store, view):
            if verifying.has_ended:
                return False
        verifying.send(signal.SIGKILL)
        verifying.wait()
    return await _is_held(store, view)


async def _is_held(store: EventStore, view: View) -> bool:
    return bool(await store.client.hexists(view.keys.checkpoint, "held_until_ms"))


async def test_a_running_job_whose_lane_entry_was_lost_ends_once(
    server: RedisServer, store: EventStore
) -> None:
    """Its worker is told that it has lost it; the new entry is recovered like that of a silent one."""
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream):
        job = await a_job(store)
        async with asyncio.timeout(20):
            await upstream.calls.get()
        keys = store.shards[0]
        lane = keys.ready(LaneName(Lane.NORMAL, "default", "echo"))
        await store.client.xdel(lane, (await store.require(job)).entry or "")
        assert [one.kind for one in (await repair(store)).mended] == ["lane entry"]
        async with asyncio.timeout(20):
            while await types_of(store, job) == ["submitted", "claimed"]:
                await asyncio.sleep(0.02)
        upstream.gate.set()
        assert isinstance(await ended(store, job), Completed)
        assert await types_of(store, job) == [
            *("submitted", "claimed", "attempt_lost", "claimed", "completed")
        ]
    await catch_up(store)
    assert await findings(store) == []


async def test_a_worker_that_finishes_before_it_learns_of_the_loss_ends_the_job(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream, lease_seconds=30):
        job = await a_job(store)
        async with asyncio.timeout(20):
            await upstream.calls.get()
        assert isinstance((await store.require(job)).job, Running)
        lane = store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo"))
        await store.client.xdel(lane, (await store.require(job)).entry or "")
        await repair(store)
        upstream.gate.set()
        assert isinstance(await ended(store, job), Completed)
        assert await types_of(store, job) == ["submitted", "claimed", "completed"]
    await catch_up(store)
    assert await findings(store) == []


async def test_a_job_that_was_acknowledged_stays_with_its_worker_once_mended(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream, lease_seconds=30):
        job = await a_job(store)
        async with asyncio.timeout(20):
            await upstream.calls.get()
        lane = store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo"))
        await store.client.xack(lane, "workers", (await store.require(job)).entry or "")
        await repair(store)
        upstream.gate.set()
        assert isinstance(await ended(store, job), Completed)
        assert await types_of(store, job) == ["submitted", "claimed", "completed"]
    await catch_up(store)
    assert await findings(store) == []
