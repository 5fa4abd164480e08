"""A paused queue: what it takes, what it holds back, and what runs on."""

import asyncio

import pytest

from core.queues import Queues
from core.states import Completed, Queued
from core.store import EventStore
from tests.conftest import OpenStore
from tests.consumers.fleet import Scripted, a_worker, ended
from tests.given import a_job
from tests.servers import RedisServer


async def test_a_paused_queue_holds_its_jobs_and_no_other_s(
    server: RedisServer, store: EventStore
) -> None:
    queues = Queues(store)
    async with a_worker(server, Scripted()):
        await queues.set_paused("slow", paused=True, by="me", reason="moving the models")
        held = await a_job(store, queue="slow")
        assert isinstance(await ended(store, await a_job(store, queue="quick")), Completed)
        assert isinstance((await store.require(held)).job, Queued)
        state = await queues.set_paused("slow", paused=False, by="me")
        assert (state.paused, state.waiting + state.running) == (False, 1)
        assert isinstance(await ended(store, held), Completed)


async def test_a_resumed_queue_wakes_its_workers(
    server: RedisServer, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.worker.POLL_SECONDS", 60.0)
    queues = Queues(store)
    async with a_worker(server, Scripted()):
        await queues.set_paused("slow", paused=True, by="me")
        held = await a_job(store, queue="slow")
        async with asyncio.timeout(10):
            while not await store.client.sismember(store.shards[0].hungry, "slow:echo"):
                await asyncio.sleep(0.01)  # Until the worker has looked, and waits.
        await queues.set_paused("slow", paused=False, by="me")
        assert isinstance(await ended(store, held), Completed)


async def test_what_runs_goes_on_while_its_queue_is_paused(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream):
        job = await a_job(store)
        await upstream.calls.get()
        await Queues(store).set_paused("default", paused=True, by="me")
        upstream.gate.set()
        assert isinstance(await ended(store, job), Completed)


async def test_a_pause_is_one_fact_however_often_it_is_asked_for(store: EventStore) -> None:
    queues = Queues(store)
    for paused in (True, True, False, False, True):
        await queues.set_paused("slow", paused=paused, by="me")
    facts = [entry for entry in await store.feed(0, "0-0") if entry.subject == "queue:slow"]
    assert [entry.version for entry in facts] == [1, 2, 3]
    assert (await queues.state("slow")).paused


async def test_a_pause_is_on_every_shard_though_its_writer_died_half_way(
    server: RedisServer, open_store: OpenStore
) -> None:
    store = await open_store(shards=4)
    queues = Queues(store)
    await queues.set_paused("slow", paused=True, by="me")
    for keys in store.shards[1:]:
        await store.client.delete(keys.paused)
    async with a_worker(server, Scripted(), shards=4):
        async with asyncio.timeout(10):
            for keys in store.shards:
                while not await store.client.sismember(keys.paused, "slow"):
                    await asyncio.sleep(0.02)
        held = [await a_job(store, shard=shard, queue="slow") for shard in range(4)]
        for shard in range(4):
            await ended(store, await a_job(store, shard=shard))
        heads = await store.load_many(held)
        assert all(head and isinstance(head.job, Queued) for head in heads)
        await queues.set_paused("slow", paused=False, by="me")
        for job in held:
            assert isinstance(await ended(store, job), Completed)
