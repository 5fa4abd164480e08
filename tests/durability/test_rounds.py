"""Rounds: shared by whoever waits, right after a fail-over, bounded by patience, passing when full."""

import asyncio
import logging
from typing import Any

import pytest
from redis.asyncio import Redis

from core.durability import Durability, InBackground, NoBarrier, Rounds, Written
from core.errors import DuplicateKey, NotDurable
from core.persistence import Capabilities, require_syncing
from core.records import Bounds
from core.redis import connect
from core.store import EventStore, IdempotencyKey
from migrations.runner import migrate
from tests.api.soon import soon
from tests.durability.conftest import OpenStore, Power
from tests.given import a_job, new_id, submitted
from tests.proxy import proxy_to


async def rounds_of(client: Redis, patience_seconds: float = 5.0) -> Rounds:
    capabilities = await require_syncing(client, "always", replicated=False)
    return Rounds(client, capabilities, 0, patience_seconds)


async def written(store: EventStore, job: str) -> Written:
    keys = store.keys_of(job)
    [log_id] = (await store.require(job)).log_ids
    return Written(keys.shard, keys.head(job), 1, log_id)


async def calls_of(client: Redis, command: str) -> int:
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_hundreds_that_wait_at_once_share_a_few_rounds(
    power: Power, opened: OpenStore, kind: str
) -> None:
    store = await opened(power(kind, "always").url, Durability.EVERYSEC)
    jobs = [await written(store, await a_job(store)) for _ in range(300)]
    rounds = await rounds_of(store.client)
    before = await calls_of(store.client, "config|get")
    await asyncio.gather(*(rounds.confirm(job) for job in jobs))
    assert await calls_of(store.client, "config|get") - before == 1


async def test_whoever_comes_during_a_round_waits_for_the_next(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "always")
    store = await opened(powered.url, Durability.EVERYSEC)
    jobs = [await written(store, await a_job(store)) for _ in range(3)]
    async with proxy_to(powered.server.port) as proxy:
        client = connect(proxy.url)
        rounds = await rounds_of(client)
        before = await calls_of(store.client, "config|get")
        proxy.stall()
        first = asyncio.create_task(rounds.confirm(jobs[0]))
        await soon(lambda: rounds._running is not None and not rounds._waiting)  # It has begun.
        others = [asyncio.create_task(rounds.confirm(job)) for job in jobs[1:]]
        await soon(lambda: len(rounds._waiting) == len(others))
        proxy.resume()
        await asyncio.gather(first, *others)
        await client.aclose()
    assert await calls_of(store.client, "config|get") - before == 2


async def test_what_a_fail_over_took_away_before_the_round_is_not_confirmed(
    power: Power, opened: OpenStore, kind: str
) -> None:
    store = await opened(power(kind, "always").url, Durability.EVERYSEC)
    lost = await written(store, await a_job(store))
    await store.client.flushall()
    await migrate(store.client)
    kept = await written(store, await a_job(store))
    rounds = await rounds_of(store.client)
    outcomes = await asyncio.gather(
        rounds.confirm(lost), rounds.confirm(kept), return_exceptions=True
    )
    assert isinstance(outcomes[0], NotDurable)
    assert "it was written, and is gone again" in str(outcomes[0])
    assert outcomes[1] is None


async def test_the_same_version_written_by_somebody_else_after_a_fail_over_is_not_confirmed(
    power: Power, opened: OpenStore, kind: str
) -> None:
    store = await opened(power(kind, "always").url, Durability.EVERYSEC)
    mine = await written(store, await a_job(store))
    rounds = await rounds_of(store.client)
    with pytest.raises(NotDurable, match="gone again"):
        await rounds.confirm(Written(mine.shard, mine.head, 1, "1-1"))


async def test_a_second_try_under_the_same_key_waits_for_a_round_too(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "always")
    unconfirmed = await opened(powered.url, Durability.EVERYSEC)
    key = IdempotencyKey("default", "k", "f")
    first = new_id()
    await unconfirmed.submit(first, submitted(), key)
    store = await opened(powered.url, Durability.ALWAYS)
    before = await calls_of(store.client, "config|get")
    with pytest.raises(DuplicateKey) as duplicate:
        await store.submit(new_id(), submitted(), key)
    assert duplicate.value.job_id == first
    assert await calls_of(store.client, "config|get") == before + 1
    await store.client.config_set("appendfsync", "everysec")
    with pytest.raises(NotDurable):
        await store.submit(new_id(), submitted(), key)


async def test_rounds_pass_when_redis_is_full(power: Power, opened: OpenStore, kind: str) -> None:
    store = await opened(power(kind, "always").url, Durability.EVERYSEC)
    job = await written(store, await a_job(store))
    await store.client.config_set("maxmemory", "1mb")
    await (await rounds_of(store.client)).confirm(job)


async def test_a_round_whose_reply_was_lost_is_run_again(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "always")
    store = await opened(powered.url, Durability.EVERYSEC)
    job = await written(store, await a_job(store))
    async with proxy_to(powered.server.port) as proxy:
        client = connect(proxy.url)
        rounds = await rounds_of(client)
        proxy.cut_in_reply(after_bytes=3)
        await rounds.confirm(job)
        await client.aclose()


async def test_a_redis_that_does_not_answer_makes_nobody_wait_longer_than_was_agreed(
    power: Power, opened: OpenStore, kind: str
) -> None:
    powered = power(kind, "always")
    store = await opened(powered.url, Durability.EVERYSEC)
    job = await written(store, await a_job(store))
    async with proxy_to(powered.server.port) as proxy:
        client = connect(proxy.url)
        rounds = await rounds_of(client, patience_seconds=0.3)
        proxy.stall()
        async with asyncio.timeout(5):
            with pytest.raises(NotDurable, match=r"not confirmed as durable within 0\.3 s"):
                await rounds.confirm(job)
        proxy.cut()
        proxy.resume()
        rounds = await rounds_of(client)
        await rounds.confirm(job)
        await client.aclose()


class Answers:
    """A client whose round is answered as the test says."""

    def __init__(self, *replies: Any) -> None:
        self._replies = list(replies)

    def pipeline(self, transaction: bool) -> "Answers":
        return self

    async def __aenter__(self) -> "Answers":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def execute_command(self, *_: object) -> None:
        pass

    async def execute(self, raise_on_error: bool) -> list[Any]:
        return [[1], *self._replies]


@pytest.mark.parametrize(
    ("replicas", "counts", "why"),
    [
        (0, [0, 0], "Redis has not synced it to disk"),
        (1, [0, 1], "Redis has not synced it to disk"),
        (1, [1, 0], "0 replicas have synced it, and it takes 1"),
    ],
)
async def test_a_count_that_is_too_small_is_no_confirmation(
    replicas: int, counts: list[int], why: str
) -> None:
    client: Any = Answers(counts)
    rounds = Rounds(client, Capabilities(has_waitaof=True, shows_config=False), replicas, 0.2)
    with pytest.raises(NotDurable, match=why):
        await rounds.confirm(Written(0, "respool:{0}:job:one", 1, "1-1"))


async def test_in_the_background_nobody_waits_and_what_was_not_confirmed_is_said(
    power: Power, opened: OpenStore, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    powered = power(kind, "always")
    store = await opened(powered.url, Durability.EVERYSEC)
    job = await written(store, await a_job(store))
    await store.client.config_set("appendfsync", "everysec")
    rounds = Rounds(
        store.client, Capabilities(has_waitaof=kind == "valkey", shows_config=True), 0, 0.5
    )
    background = InBackground(rounds)
    await background.confirm(job)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        await background.settle()
    assert f"{job.head}, version 1: written, but not confirmed as durable" in caplog.text


async def test_without_a_setting_nobody_waits() -> None:
    store = EventStore(connect("redis://127.0.0.1:1/0"), 1, Bounds())
    assert isinstance(store._barrier, NoBarrier)
