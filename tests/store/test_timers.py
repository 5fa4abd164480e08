"""Delays and deadlines: on time, once, and not when they have been overtaken."""

import asyncio
import time

from core import functions
from core.commands import Cancel
from core.effects import Timer
from core.keys import timer_member
from core.states import Cancelled, Expired, Queued, Scheduled
from core.store import Bounds, EventStore
from core.timers import fire_due
from tests.conftest import OpenStore
from tests.given import a_job
from tests.store.audit import audit


async def until(store: EventStore, job: str, state: type) -> None:
    """Fire timers until the job is in the state, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not isinstance((await store.require(job)).job, state):
            await asyncio.sleep(await fire_due(store))


async def test_a_delayed_job_is_queued_once_it_is_due_and_not_before(store: EventStore) -> None:
    job = await a_job(store, delay_ms=150)
    await fire_due(store)
    assert isinstance((await store.require(job)).job, Scheduled)
    await until(store, job, Queued)
    created, queued = await store.history(job)
    assert 150 <= queued.at_ms - created.at_ms < 5_000
    await audit(store)


async def test_many_processes_fire_a_timer_once(open_store: OpenStore) -> None:
    store = await open_store(shards=4)
    jobs = [await a_job(store, shard=n % 4, delay_ms=1) for n in range(40)]
    others = [EventStore(store.client, 4, Bounds()) for _ in range(5)]
    await asyncio.sleep(0.01)
    await asyncio.gather(*(fire_due(other) for other in others))
    for job in jobs:
        assert len(await store.history(job)) == 2
    await audit(store)


async def test_a_deadline_expires_a_job_that_did_not_start(store: EventStore) -> None:
    job = await a_job(store, deadline_ms=30)
    await until(store, job, Expired)
    assert await store.client.zcard(store.shards[0].timers) == 0
    await audit(store)


async def test_a_cancelled_job_s_timers_are_gone(store: EventStore) -> None:
    job = await a_job(store, delay_ms=60_000, deadline_ms=60_000)
    await store.execute(job, Cancel("me"))
    assert await store.client.zcard(store.shards[0].timers) == 0
    assert isinstance((await store.require(job)).job, Cancelled)


async def test_a_timer_that_means_nothing_is_dropped(store: EventStore) -> None:
    job = await a_job(store)
    timers = store.shards[0].timers
    await store.client.zadd(timers, {timer_member(job, Timer.DUE): 1, "gone:due": 1})
    await fire_due(store)
    assert await store.client.zcard(timers) == 0
    assert isinstance((await store.require(job)).job, Queued)


async def test_a_timer_that_was_set_anew_meanwhile_is_not_dropped(store: EventStore) -> None:
    timers = store.shards[0].timers
    await store.client.zadd(timers, {"job:due": 2})
    for score in ("1", "2"):
        await functions.call(store.client, "drop", [timers], {"member": "job:due", "score": score})
        assert await store.client.zcard(timers) == (1 if score == "1" else 0)


async def test_the_next_look_comes_in_time_for_the_next_timer(store: EventStore) -> None:
    await a_job(store, delay_ms=40)
    started = time.monotonic()
    assert 0 < await fire_due(store) <= 0.04 + (time.monotonic() - started)
