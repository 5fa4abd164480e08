"""What a SIGKILL of Redis and a power cut take away, with each setting."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.commands import Cancel
from core.durability import Durability
from core.redis import connect
from core.states import Cancelled, Completed
from tests.api.soon import soon
from tests.consumers.fleet import ended
from tests.durability.conftest import OpenStore, Power
from tests.durability.power import Powered
from tests.durability.submitting import Submitters, missing, submit_many
from tests.given import a_job
from tests.processes import respool
from tests.store.audit import audit

SLOW_SYNC_MS = 1_000
# A sync a second, which lasts SLOW_SYNC_MS, and may have to wait for the one before; and a slow machine.
LOSS_SECONDS_MAX = 2 * (1 + SLOW_SYNC_MS / 1_000) + 5


async def holds_back(client: Redis) -> bool:
    """Say whether Redis has acknowledged what it has not yet written to its file."""
    return int((await client.info("persistence"))["aof_buffer_length"]) > 0


async def has_written(client: Redis) -> bool:
    return not await holds_back(client)


async def until_all_is_synced(powered: Powered, client: Redis) -> None:
    async def is_so() -> bool:
        return not await holds_back(client) and powered.is_synced()

    await soon(is_so)


async def test_a_sigkill_of_redis_loses_nothing_that_it_has_written(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "everysec")
    store = await opened(powered.url, Durability.EVERYSEC)
    jobs = await submit_many(store, 3_000)
    await soon(lambda: has_written(store.client))
    powered.server.stop()
    await powered.start()
    assert await missing(store, jobs) == set()
    assert len(await audit(store)) == len(jobs)


async def test_with_everysec_a_sigkill_takes_what_redis_held_back_during_a_sync(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "everysec", delay_ms=SLOW_SYNC_MS)
    store = await opened(powered.url, Durability.EVERYSEC)
    await until_all_is_synced(powered, store.client)
    async with Submitters(store, tasks=4) as submitters:
        await soon(lambda: holds_back(store.client))
        await submitters.until(len(submitters.acknowledged) + 20)
        powered.server.stop()
        killed_at = time.monotonic()
        await powered.start()
    lost = await missing(store, list(submitters.acknowledged))
    assert lost
    assert killed_at - min(submitters.acknowledged[job] for job in lost) < LOSS_SECONDS_MAX
    await audit(store)


async def test_a_power_cut_with_everysec_loses_the_last_seconds_and_no_more(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "everysec", delay_ms=SLOW_SYNC_MS)
    store = await opened(powered.url, Durability.EVERYSEC)
    early = await submit_many(store, 100)
    await until_all_is_synced(powered, store.client)
    async with Submitters(store) as submitters:
        await submitters.until(200)
        powered.cut()
        cut_at = time.monotonic()
        await powered.start()
    assert await missing(store, early) == set()
    lost = await missing(store, list(submitters.acknowledged))
    assert lost
    assert cut_at - min(submitters.acknowledged[job] for job in lost) < LOSS_SECONDS_MAX
    await audit(store)


async def test_a_power_cut_with_always_loses_nothing_that_was_acknowledged(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "always", delay_ms=3)
    store = await opened(powered.url, Durability.ALWAYS)
    async with Submitters(store) as submitters:
        await submitters.until(1_000)
        powered.cut()
        await powered.start()
    assert await missing(store, list(submitters.acknowledged)) == set()
    await audit(store)


async def test_an_acknowledged_ending_outlives_a_power_cut(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "always")
    store = await opened(powered.url, Durability.ALWAYS)
    job = await a_job(store)
    await store.execute(job, Cancel("me"))
    powered.cut()
    await powered.start()
    assert isinstance((await store.require(job)).job, Cancelled)


async def test_a_worker_that_was_told_to_stop_leaves_durable_results(
    power: Power, opened: OpenStore, kind: str, tmp_path: Path
) -> None:
    powered = power(kind, "always")
    store = await opened(powered.url, Durability.ALWAYS)
    jobs = [await a_job(store) for _ in range(20)]
    with respool(
        tmp_path / "worker.log",
        "worker",
        REDIS_URL=powered.url,
        UPSTREAM_URL="echo:",
        WORKER_PORT="0",
        DURABILITY="always",
    ) as worker:
        await asyncio.gather(*(ended(store, job) for job in jobs))
        worker.send(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) == 0
    powered.cut()
    await powered.start()
    for job in jobs:
        assert isinstance((await store.require(job)).job, Completed)
    await audit(store)


async def test_waitaof_is_not_taken_at_its_word_while_a_server_answers_it_before_its_sync(
    power: Power,
) -> None:
    powered = power("valkey", "everysec", delay_ms=SLOW_SYNC_MS)
    client = connect(powered.url)
    try:
        for number in range(3):
            await client.set("number", number)
            assert await client.execute_command("WAITAOF", 1, 0, 4_000) == [1, 0]
            if not powered.is_synced():
                break
        else:
            pytest.skip("this server's WAITAOF waits for the sync: `everysec` could be allowed")
        powered.cut()
        await powered.start()
        assert await client.get("number") != str(number).encode()
    finally:
        await client.aclose()
