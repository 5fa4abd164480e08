"""Delays and deadlines: on time, once, and not when they have been overtaken."""

import asyncio
import signal
import time
from collections import Counter
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from core import functions
from core.commands import Cancel
from core.effects import Timer
from core.keys import timer_member
from core.log import tag_of
from core.records import Bounds
from core.states import Cancelled, Expired, Queued, Scheduled
from core.store import EventStore
from core.timers import BATCH, Timers
from core.upcast import stamp
from tests.conftest import OpenStore
from tests.given import a_job
from tests.processes import respool
from tests.releases.newer import is_newer
from tests.servers import RedisServer
from tests.store.audit import audit


async def until(store: EventStore, job: str, state: type) -> None:
    """Fire timers until the job is in the state, for ten seconds at most."""
    timers = Timers(store)
    async with asyncio.timeout(10):
        while not isinstance((await store.require(job)).job, state):
            await asyncio.sleep(await timers.fire_due())


async def test_a_delayed_job_is_queued_once_it_is_due_and_not_before(store: EventStore) -> None:
    job = await a_job(store, delay_ms=150)
    await Timers(store).fire_due()
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
    await asyncio.gather(*(Timers(other).fire_due() for other in others))
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
    await Timers(store).fire_due()
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
    assert 0 < await Timers(store).fire_due() <= 0.04 + (time.monotonic() - started)


async def newer_jobs(store: EventStore, count: int) -> list[str]:
    """Jobs that are due, and that a newer release wrote."""
    jobs = [await a_job(store, delay_ms=1) for _ in range(count)]
    for job in jobs:
        await is_newer(store, job, readable=False)
    return jobs


async def test_timers_that_cannot_be_fired_hide_none_and_are_not_asked_for_again_and_again(
    store: EventStore,
) -> None:
    newer = await newer_jobs(store, BATCH + 1)
    job = await a_job(store, delay_ms=1)
    await asyncio.sleep(0.01)
    timers = Timers(store)
    sleeps = [await timers.fire_due() for _ in range(3)]
    assert isinstance((await store.require(job)).job, Queued)
    assert sleeps[0] == 0  # There was more.
    assert sleeps[1:] == [0.1, 0.1]
    assert await store.client.zcard(store.shards[0].timers) == len(newer)


async def test_what_could_not_be_fired_is_fired_once_it_can_be(store: EventStore) -> None:
    [job] = await newer_jobs(store, 1)
    await asyncio.sleep(0.01)
    timers = Timers(store)
    await timers.fire_due()
    for name, value in stamp().items():
        await store.client.hset(store.shards[0].head(job), name, value)
    async with asyncio.timeout(10):
        while not isinstance((await store.require(job)).job, Queued):
            await asyncio.sleep(await timers.fire_due())
    await audit(store)


async def test_a_timer_of_a_newer_release_is_left_to_it(store: EventStore) -> None:
    job = await a_job(store, delay_ms=1)
    timers = store.shards[0].timers
    await store.client.zadd(timers, {f"{job}:nap": 1})
    await asyncio.sleep(0.01)
    await Timers(store).fire_due()
    assert isinstance((await store.require(job)).job, Queued)
    assert await store.client.zrange(timers, 0, -1) == [f"{job}:nap".encode()]


async def due_jobs(store: EventStore, count: int) -> None:
    """So many jobs whose timers go off at once; submitted by the thousand, as patience is bounded."""
    for _ in range(count // 1_000):
        await asyncio.gather(*(a_job(store, delay_ms=1) for _ in range(1_000)))


async def test_ten_thousand_timers_at_once_are_fired_in_bounded_batches(
    open_store: OpenStore,
) -> None:
    store = await open_store(scheduled_max=20_000)
    count = 10_000
    await due_jobs(store, count)
    await asyncio.sleep(0.01)
    timers, armed = Timers(store), store.shards[0].timers
    left = [count]
    while left[-1]:
        sleep_seconds = await timers.fire_due()
        left.append(await store.client.zcard(armed))
        assert sleep_seconds == 0 or not left[-1]
    assert {before - after for before, after in pairwise(left)} == {BATCH}


async def test_of_several_processes_each_timer_is_fired_by_one_with_no_worker_alive(
    server: RedisServer, open_store: OpenStore, tmp_path: Path
) -> None:
    store = await open_store(scheduled_max=20_000)
    count = 10_000
    with ExitStack() as stack:
        environment = {"REDIS_URL": server.url, "API_PORT": "0"}
        processes = [
            stack.enter_context(respool(tmp_path / f"api-{n}.log", "api", **environment))
            for n in range(3)
        ]
        async with asyncio.timeout(30):
            while not all("serving" in process.output for process in processes):
                await asyncio.sleep(0.05)
        for process in processes:
            process.send(signal.SIGSTOP)  # So that they find all of it due, and all at once.
        await due_jobs(store, count)
        for process in processes:
            process.send(signal.SIGCONT)
        async with asyncio.timeout(60):
            while await store.client.zcard(store.shards[0].timers):
                await asyncio.sleep(0.05)
    told: Counter[tuple[str, str]] = Counter()
    position = "0-0"
    while entries := await store.feed(0, position):
        told.update((entry.subject, tag_of(entry.event)) for entry in entries)
        position = entries[-1].id
    assert set(told.values()) == {1}
    assert Counter(tag for _, tag in told) == {"submitted": count, "queued": count}
