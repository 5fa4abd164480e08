"""What the log lacks nobody can tell: it is named, everything else is mended, and an operator may go on without."""

import asyncio

import pytest

from core.commands import Cancel, Complete
from core.events import Timings
from core.store import EventStore
from projections.building import build
from projections.checkpoint import LostTail
from projections.feed import Gap
from projections.generations import serving
from projections.projector import Projector
from projections.replay.repair import repair
from projections.replay.verify import verify
from projections.runner import Runner
from tests.given import CHAT, a_job
from tests.projections.views import catch_up
from tests.replay.worlds import claimed, findings, some_of_everything


async def delete_event(store: EventStore, job: str, version: int) -> str:
    """Its entry's id."""
    entry = (await store.history(job))[version - 1].id
    assert await store.client.xdel(store.shards[0].log, entry) == 1
    return entry


async def left(store: EventStore) -> list[str]:
    """What repair leaves."""
    return [str(one) for one in (await repair(store)).report.differences]


async def accepted(store: EventStore) -> list[str]:
    """What verify says that was accepted, where nothing else differs."""
    report, _ = await verify(store)
    assert not report.differences
    return [str(one) for one in report.accepted]


@pytest.mark.parametrize("is_in_views", [True, False])
async def test_an_event_that_is_missing_in_mid_history_parks_its_job(
    store: EventStore, is_in_views: bool
) -> None:
    await some_of_everything(store)
    job = await claimed(store)
    await store.execute(job, Complete(1, CHAT, Timings(ran_ms=1)))
    if is_in_views:
        await catch_up(store)
    entry = await delete_event(store, job, 2)
    number = int(await store.client.get(store.shards[0].sequence) or 0) - 1
    found = await left(store)
    assert len(found) == 2, found
    assert f"log number {number} is missing" in found[0]
    assert f"history of {job} is 'entry " in found[1]
    assert "version 3" in found[1]
    repaired = await repair(store, accept_gaps=True)
    assert not repaired.report.differences
    assert len(await accepted(store)) == 2
    view = (await serving(store)).view(store, 0)
    await catch_up(store)
    assert (await view.parked()).keys() == {job}
    assert len(await accepted(store)) == 2
    await build(store)  # Strict, and yet it parks this job.
    assert len(await accepted(store)) == 2
    assert entry not in str(await store.feed(0, "0-0"))


@pytest.mark.parametrize("is_in_views", [True, False])
async def test_a_missing_last_event_leaves_its_job_as_its_head_says(
    store: EventStore, is_in_views: bool
) -> None:
    await some_of_everything(store)
    job = await claimed(store)
    if is_in_views:
        await catch_up(store)
    entry = await delete_event(store, job, 2)
    found = await left(store)
    lacking = f"history of {job} version 2 is missing; it should be 'entry {entry}'"
    assert any(lacking in one for one in found)
    assert any("log number" in one for one in found)
    assert len(found) == 2, found
    assert not (await repair(store, accept_gaps=True)).report.differences
    await store.execute(job, Complete(1, CHAT, Timings(ran_ms=1)))  # Whose version is one too many.
    await a_job(store)
    await catch_up(store)
    assert len(await accepted(store)) == 2


async def test_a_missing_first_event_parks_its_job(store: EventStore) -> None:
    job = await a_job(store)
    await store.execute(job, Cancel("somebody"))
    await delete_event(store, job, 1)
    await repair(store, accept_gaps=True)
    await a_job(store)
    await catch_up(store)
    assert len(await accepted(store)) == 2


async def test_a_projector_goes_on_once_a_gap_is_accepted(store: EventStore) -> None:
    job = await a_job(store)
    await store.execute(job, Cancel("somebody"))
    await delete_event(store, job, 1)
    view = (await serving(store)).view(store, 0)
    with pytest.raises(Gap, match="respool replay repair --accept-gaps"):
        await Runner(store, view).advance()
    projecting = asyncio.create_task(Projector(store).run())
    await a_job(store)
    await repair(store, accept_gaps=True)
    async with asyncio.timeout(20):
        while (await (await serving(store)).view(store, 0).checkpoint()).sequence < 3:
            await asyncio.sleep(0.02)
    projecting.cancel()
    await asyncio.gather(projecting, return_exceptions=True)
    assert len(await accepted(store)) == 2


async def test_repair_mends_what_else_is_wrong_beside_a_gap(store: EventStore) -> None:
    job, other = await a_job(store), await a_job(store)
    await store.execute(job, Cancel("somebody"))
    await delete_event(store, job, 2)
    await store.client.hset(store.shards[0].head(other), "tenant", "mallory")
    await store.client.hincrby(store.shards[0].counts, "waiting:default", 5)
    repaired = await repair(store)
    assert {str(one.kind) for one in repaired.mended} == {"head", "count"}
    assert {str(one.kind) for one in repaired.report.differences} == {"log"}


async def test_views_of_a_log_that_lost_its_end_are_folded_anew(store: EventStore) -> None:
    """As a power cut leaves it: log, heads and all else from an earlier moment, and views from a later one."""
    await some_of_everything(store)
    client, keys = store.client, store.shards[0]
    view = (await serving(store)).view(store, 0)
    end = int(await client.get(keys.sequence) or 0)
    await client.hset(
        view.keys.checkpoint, mapping={"sequence": end + 3, "entry": "9999999999999-0"}
    )
    with pytest.raises(LostTail):
        await Runner(store, view).advance()
    [found] = await findings(store)
    assert "view checkpoint" in found
    assert "lost its end" in found
    assert await left(store) == []
    assert await findings(store) == []
