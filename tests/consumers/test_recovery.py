"""Recovery: what a silent worker held goes back, in bounded steps, and nothing that is alive."""

import asyncio
from typing import Any

import pytest

from consumers.claims import Claims
from consumers.execute import LossLimits
from consumers.recovery import Recovery
from core.commands import Cancel, Claim, Complete, RecoveryPolicy, Requeue
from core.events import AttemptLost, LostBecause, Timings, WorkerStarted
from core.job import decide
from core.keys import LaneName
from core.roster import Heartbeat, Roster
from core.states import Failed, Lane, Queued, Running
from core.store import Claim as Proof
from core.store import EventStore
from tests.conftest import OpenStore
from tests.consumers.fleet import types_of
from tests.given import CHAT, a_job
from tests.store.audit import audit

LEASE_SECONDS = 0.2
STARTED = WorkerStarted(capacity=1, queues=(), models=("echo",), upstream="x", host="h")
LANE = LaneName(Lane.NORMAL, "default", "echo")


def a_recovery(store: EventStore, consumer: str = "rescuer") -> Recovery:
    limits = LossLimits(deliveries_max=5, recovery_policy=RecoveryPolicy.REQUEUE)
    return Recovery(store, Roster(store), consumer, LEASE_SECONDS, limits, is_mine=lambda *_: False)


async def take(store: EventStore, worker: str, want: int, *, starts: bool = True) -> list[str]:
    """A worker takes deliveries, and claims their jobs unless it is gone before that."""
    jobs = []
    for delivery in await Claims(store, worker, (), lambda: {"echo"}).take(want):
        jobs.append(delivery.job_id)
        if starts:
            known = delivery.head.job
            proof = Proof(worker, delivery.entry)
            await store.append(delivery.job_id, known, decide(known, Claim(worker)), proof)
    return jobs


async def test_what_is_held_under_a_lease_is_left_alone(store: EventStore) -> None:
    job = await a_job(store)
    await take(store, "w1", 1)
    assert await a_recovery(store).recover() == 0
    assert isinstance((await store.require(job)).job, Running)


async def test_what_a_living_worker_never_started_goes_back_and_costs_nothing(
    store: EventStore,
) -> None:
    job = await a_job(store)
    await take(store, "w1", 1, starts=False)
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    assert await a_recovery(store).recover(living={"w1"}) == 1
    assert await types_of(store, job) == ["submitted", "claimed", "attempt_lost"]
    event = (await store.history(job))[-1].event
    assert isinstance(event, AttemptLost)
    assert (event.why, event.worker) == (LostBecause.NEVER_STARTED, "w1")
    back = (await store.require(job)).job
    assert isinstance(back, Queued)
    assert (back.lane, back.lost_workers) == (Lane.FRONT, ())
    await audit(store)


async def test_a_job_that_kills_whoever_reads_it_is_parked_too(store: EventStore) -> None:
    job = await a_job(store)
    for n in range(5):
        await take(store, f"w{n}", 1, starts=False)
        await asyncio.sleep(LEASE_SECONDS + 0.05)
        assert await a_recovery(store).recover() == 1
    parked = (await store.require(job)).job
    assert isinstance(parked, Failed)
    assert parked.lost_workers == ("w0", "w1", "w2", "w3", "w4")
    await audit(store)


async def test_of_several_that_recover_at_once_one_does(open_store: OpenStore) -> None:
    store = await open_store(shards=4)
    jobs = [await a_job(store, shard=n % 4) for n in range(40)]
    await take(store, "w1", 40)
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    taken = await asyncio.gather(*(a_recovery(store, f"r{n}").recover() for n in range(5)))
    assert sum(taken) == 40
    for job in jobs:
        assert await types_of(store, job) == ["submitted", "claimed", "attempt_lost"]
    await audit(store)


async def test_a_dead_worker_s_job_behind_many_live_ones_is_found(open_store: OpenStore) -> None:
    store = await open_store(waiting_max=10_000)
    live = [await a_job(store) for _ in range(1_500)]
    await take(store, "alive", len(live))
    dead = await a_job(store)
    assert await take(store, "dead", 1) == [dead]
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    await renew_all_of(store, "alive")
    async with asyncio.timeout(10):
        assert await a_recovery(store).recover() == 1
    assert isinstance((await store.require(dead)).job, Queued)
    assert isinstance((await store.require(live[0])).job, Running)


async def renew_all_of(store: EventStore, worker: str) -> None:
    client: Any = store.client
    lane = store.shards[0].ready(LANE)
    rows = await client.xpending_range(lane, "workers", "-", "+", 10_000, consumername=worker)
    entries = [row["message_id"] for row in rows]
    await client.xclaim(lane, "workers", worker, 0, entries, justid=True)


async def test_after_an_outage_nothing_is_recovered_for_one_lease(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can look while Redis is away, and who looks first may know nothing of that."""
    monkeypatch.setattr("consumers.recovery.OUTAGE_MS_MIN", 100)
    job = await a_job(store)
    await a_recovery(store, "before").recover()
    await take(store, "w1", 1)
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    newcomer = a_recovery(store, "after")
    assert await newcomer.recover() == 0
    assert isinstance((await store.require(job)).job, Running)
    async with asyncio.timeout(10):
        while not await newcomer.recover():
            await asyncio.sleep(0.02)
    taken_at_ms = (await store.require(job)).time_ms(3)
    looked = await store.client.hgetall(store.shards[0].recovery)
    assert taken_at_ms >= int(looked[b"not_before_ms"])
    await audit(store)


async def test_dead_consumers_are_struck_off_unless_they_hold_something(store: EventStore) -> None:
    job = await a_job(store)
    await take(store, "dead and holding", 1)
    for worker in ("dead", "alive"):
        done = await a_job(store)
        await take(store, worker, 1)
        await store.execute(done, Complete(1, CHAT, Timings(ran_ms=1)))
    await Roster(store).record("alive", STARTED)
    await Roster(store).beat("alive", Heartbeat(running=0, models=("echo",)), 60_000)
    assert await a_recovery(store).tidy(idle_ms=0) == (1, 0)
    assert await consumers_of(store) == {"dead and holding", "alive"}
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    assert await a_recovery(store).recover() == 1
    assert isinstance((await store.require(job)).job, Queued)


async def consumers_of(store: EventStore) -> set[str]:
    client: Any = store.client
    rows = await client.xinfo_consumers(store.shards[0].ready(LANE), "workers")
    return {row["name"].decode() for row in rows}


async def test_lanes_that_nothing_waits_in_are_struck_off_and_made_anew(store: EventStore) -> None:
    keys = store.shards[0]
    held, over = await a_job(store), await a_job(store, queue="chosen by a client")
    await take(store, "w1", 1)
    waits = await a_job(store, queue="still waiting")
    await store.execute(over, Cancel("me"))
    assert await a_recovery(store).tidy(idle_ms=60_000) == (0, 0)
    assert await a_recovery(store).tidy(idle_ms=0) == (0, 1)
    waiting = LaneName(Lane.NORMAL, "still waiting", "echo")
    assert await store.client.smembers(keys.lanes) == {str(LANE).encode(), str(waiting).encode()}
    counts = await store.client.hgetall(keys.counts)
    assert counts == {b"running:default": b"1", b"waiting:still waiting": b"1"}
    await store.execute(over, Requeue("me"))
    assert set(await take(store, "w1", 2)) == {waits, over}
    assert isinstance((await store.require(held)).job, Running)
    await audit(store)
