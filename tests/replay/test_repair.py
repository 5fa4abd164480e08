"""Repair changes nothing that has moved on since it looked, and nobody repairs at the same time."""

import asyncio
import os
import platform
from typing import Any

import pytest

from core.commands import Cancel
from core.errors import StoreError
from core.states import Cancelled
from core.store import EventStore
from projections.building import build
from projections.replay.mending import mend_subject
from projections.replay.repair import repair
from projections.replay.verify import verify
from projections.rows import Unfoldable
from tests.given import a_job
from tests.projections.views import catch_up
from tests.replay.worlds import findings


async def test_a_job_that_moves_on_before_it_is_mended_is_mended_as_it_is_then(
    store: EventStore, client: Any
) -> None:
    job = await a_job(store)
    await client.pexpire(store.shards[0].head(job), 60_000)
    _, [shard] = await verify(store)
    await store.execute(job, Cancel("somebody"))
    await client.hset(store.shards[0].head(job), "tenant", "mallory")
    assert await mend_subject(shard, job)
    head = await store.require(job)
    assert isinstance(head.job, Cancelled)
    assert head.job.tenant == "default"
    await catch_up(store)
    assert await findings(store) == []


async def test_of_two_repairs_at_once_one_is_refused(store: EventStore, client: Any) -> None:
    for _ in range(3):
        await a_job(store)
    await catch_up(store)
    await client.hincrby(store.shards[0].counts, "waiting:default", 5)
    outcomes = await asyncio.gather(repair(store), repair(store), return_exceptions=True)
    [refused] = [one for one in outcomes if isinstance(one, StoreError)]
    assert f"process {os.getpid()} on {platform.node()} is repairing the store" in str(refused)
    assert await findings(store) == []
    assert not (await repair(store)).mended  # And the next one is let in.


async def test_an_accepted_gap_excuses_no_other_hole(store: EventStore, client: Any) -> None:
    """A strict build parks the jobs of accepted gaps, and stops at any other that cannot be folded."""
    job, other = await a_job(store), await a_job(store)
    await store.execute(job, Cancel("somebody"))
    await client.xdel(store.shards[0].log, (await store.history(job))[0].id)
    await repair(store, accept_gaps=True)
    number = int(await client.get(store.shards[0].sequence)) + 1
    stray = {"j": other, "v": 3, "t": "cancelled", "d": '{"type":"cancelled","by":"x"}', "o": "x"}
    await client.xadd(store.shards[0].log, {**stray, "q": number, "s": 1})
    await client.set(store.shards[0].sequence, number)
    with pytest.raises(Unfoldable, match=f"version 3 of {other}"):
        await build(store)
    report, _ = await verify(store)
    assert [one.subject for one in report.differences] == [f"history of {other}"]


async def test_an_operation_that_is_in_the_log_twice_is_named(
    store: EventStore, client: Any
) -> None:
    job = await a_job(store)
    await a_job(store)
    operation = (await store.history(job))[0].operation
    number = int(await client.get(store.shards[0].sequence)) + 1
    again = {"j": job, "v": 2, "t": "cancelled", "d": '{"type":"cancelled","by":"x"}'}
    await client.xadd(store.shards[0].log, {**again, "o": operation, "q": number, "s": 1})
    await client.set(store.shards[0].sequence, number)
    found = await findings(store)
    twice = f"log operation {operation} of {job} is 'written again as entry "
    assert any(twice in one for one in found), found


async def test_a_number_that_is_in_the_log_twice_is_named(store: EventStore, client: Any) -> None:
    """As when the sequence was set back, and nobody noticed."""
    await a_job(store)
    await a_job(store)
    await client.set(store.shards[0].sequence, 1)
    await a_job(store)
    [found] = await findings(store)
    assert "log number 2 is 'the log of shard 0 has entry " in found
