"""Output chunks: only for the current claim, once each, in order; and the bells that tell of them."""

import asyncio

import pytest

from consumers.claims import Claims
from core.bells import Bells
from core.commands import Cancel, Claim, Lose
from core.events import LostBecause
from core.job import decide
from core.keys import WORK_BELL
from core.nodes import primaries
from core.output import Emitter, Write, read_output
from core.store import Claim as Proof
from core.store import EventStore
from tests.given import a_job


async def a_running_job(store: EventStore, worker: str = "w1") -> str:
    job = await a_job(store)
    await claim(store, worker)
    return job


async def claim(store: EventStore, worker: str) -> None:
    [delivery] = await Claims(store, worker, (), lambda: {"echo"}).take(1)
    known = delivery.head.job
    proof = Proof(worker, delivery.entry)
    await store.append(delivery.job_id, known, decide(known, Claim(worker)), proof)


async def test_chunks_are_read_back_in_order_with_their_claim_and_number(
    store: EventStore,
) -> None:
    job, emitter = await a_running_job(store), Emitter(store, 1.0)
    assert await emitter.emit(Write(job, 1, "w1", 1, (b"a", b"b")))
    assert await emitter.emit(Write(job, 1, "w1", 3, (b"c",)))
    assert [(one.id, one.data) for one in await read_output(store, job)] == [
        ("1-1", b"a"),
        ("1-2", b"b"),
        ("1-3", b"c"),
    ]
    assert [one.id for one in await read_output(store, job, after="1-2")] == ["1-3"]


async def test_chunks_that_are_sent_again_are_there_once(store: EventStore) -> None:
    job, emitter = await a_running_job(store), Emitter(store, 1.0)
    for _ in range(2):
        assert await emitter.emit(Write(job, 1, "w1", 1, (b"a", b"b")))
    assert [one.data for one in await read_output(store, job)] == [b"a", b"b"]


async def test_a_claim_that_was_taken_over_writes_no_output(store: EventStore) -> None:
    job, emitter = await a_running_job(store), Emitter(store, 1.0)
    await store.execute(job, Lose(1, LostBecause.LEASE_RAN_OUT, 5))
    assert not await emitter.emit(Write(job, 1, "w1", 1, (b"late",)))
    await claim(store, "w2")
    assert not await emitter.emit(Write(job, 1, "w1", 1, (b"late",)))
    assert not await emitter.emit(Write(job, 1, "w2", 1, (b"of the same worker's claim before",)))
    assert not await emitter.emit(
        Write(job, 2, "w1", 1, (b"of a claim before the store lost its tail",))
    )
    assert await emitter.emit(Write(job, 2, "w2", 1, (b"new",)))
    assert [one.data for one in await read_output(store, job)] == [b"new"]


async def test_a_bell_rings_for_its_job_and_for_no_other(store: EventStore) -> None:
    bells = Bells(store.client)
    running = asyncio.create_task(bells.run())
    mine, other = await a_job(store), await a_job(store)
    async with bells.hear(mine) as bell:
        await bell.wait(0.2)  # The subscription itself rings once.
        await store.execute(other, Cancel("me"))
        assert not await bell.wait(0.1)
        await store.execute(mine, Cancel("me"))
        assert await bell.wait(5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_listeners_share_a_subscription_and_leave_none_behind(store: EventStore) -> None:
    bells = Bells(store.client)
    running = asyncio.create_task(bells.run())
    job = await a_job(store)
    channel = f"respool:bell:{job}"
    async with bells.hear(job), bells.hear(job):
        assert await listeners(store, channel) == 1
    async with asyncio.timeout(5):
        while await listeners(store, channel):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def listeners(store: EventStore, channel: str) -> int:
    """How many connections have subscribed to a channel, on all servers."""
    counted = [await node.pubsub_numsub(channel) for node in await primaries(store.client)]
    return sum(int(count) for [(_, count)] in counted)


async def test_every_bell_rings_after_a_reconnect(store: EventStore) -> None:
    bells = Bells(store.client)
    running = asyncio.create_task(bells.run())
    async with bells.hear(WORK_BELL) as bell:
        await bell.wait(0.2)
        for node in await primaries(store.client):
            await node.client_kill_filter(_type="pubsub")
        assert await bell.wait(5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_hearing_does_not_wait_for_a_redis_that_is_away(store: EventStore) -> None:
    async with Bells(store.client).hear("job", confirm_seconds=0.05) as bell:
        assert not await bell.wait(0.01)


async def test_a_quiet_doorbell_connection_is_asked_and_kept(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.bells._SILENCE_SECONDS", 0.05)
    bells = Bells(store.client)
    running = asyncio.create_task(bells.run())
    async with bells.hear(WORK_BELL) as bell:
        await bell.wait(0.2)  # The subscription itself rings once; a new connection would too.
        assert not await bell.wait(0.5)
        await store.client.publish(WORK_BELL, "")
        assert await bell.wait(5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
