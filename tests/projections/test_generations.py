"""Generations of views: built beside each other, one serving each release, and gone once nobody keeps them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from core.commands import Cancel
from core.errors import StoreFull, StoreNotReady
from core.store import EventStore
from projections import building, generations, projector
from projections.building import build, clock_ms
from projections.checkpoint import LostTail, View
from projections.generations import (
    Generation,
    Role,
    all_of,
    being_built,
    drop,
    drop_abandoned,
    moved_ms,
    serving,
    switch,
)
from projections.keys import VIEWS
from projections.projector import Projector
from projections.pruning import horizon
from tests.conftest import OpenStore
from tests.given import a_job
from tests.projections.views import check_views, contents, lives

OTHER = "rows.0 jobs.0"
HOUR_MS = 3_600_000
CATCH_UP_SECONDS = 20.0


@asynccontextmanager
async def a_projector(store: EventStore) -> AsyncIterator[None]:
    running = asyncio.create_task(Projector(store).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until_at_the_end(store: EventStore, view: View) -> None:
    async with asyncio.timeout(CATCH_UP_SECONDS):
        while (await view.checkpoint()).sequence < (await building.log_lengths(store))[0]:
            await asyncio.sleep(0.01)


async def half_built(store: EventStore, of: str | None = None) -> Generation:
    """What a build leaves that is killed at its beginning."""
    return await generations.begin(
        store, horizon(await clock_ms(store), store.bounds.retention_ms), of
    )


async def keys_left(store: EventStore, generation: Generation) -> list[bytes]:
    return [key async for key in store.client.scan_iter(f"*:view:{generation.number}:*")]


async def test_each_release_has_its_own(store: EventStore) -> None:
    await lives(store, 20, Random(1))
    ours, other = await build(store), await build(store, of=OTHER)
    assert await serving(store) == ours
    assert await serving(store, OTHER) == other
    assert await contents(store, other.view(store, 0)) == await contents(store, ours.view(store, 0))


async def test_a_replaced_one_leaves_nothing(store: EventStore) -> None:
    await lives(store, 20, Random(1))
    first = await serving(store)
    second = await build(store)
    assert await all_of(store) == {second: Role.SERVING}
    assert await keys_left(store, first) == []
    assert await keys_left(store, second)


async def test_a_projector_follows_the_one_that_serves_though_the_old_one_is_still_there(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a rebuild that was killed between its switch and its drop."""
    monkeypatch.setattr(projector, "_PRUNE_EVERY_SECONDS", 0.05)
    old = await serving(store)
    async with a_projector(store):
        await a_job(store)
        await until_at_the_end(store, old.view(store, 0))
        new = await half_built(store)
        assert await switch(store, new) == old
        await until_at_the_end(store, new.view(store, 0))
        assert await all_of(store) == {old: Role.REPLACED, new: Role.SERVING}


async def test_a_projector_forgets_all_that_is_old_and_not_a_part_each_minute(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def an_ended_job() -> None:
        await store.execute(await a_job(store), Cancel("somebody"))

    for _ in range(5):
        await asyncio.gather(*(an_ended_job() for _ in range(500)))
    kept = await a_job(store)
    view = (await serving(store)).view(store, 0)

    async def in_two_days(store: EventStore) -> int:
        return await clock_ms(store) + 48 * HOUR_MS

    async with a_projector(store):
        await until_at_the_end(store, view)
    monkeypatch.setattr(projector, "clock_ms", in_two_days)
    async with a_projector(store), asyncio.timeout(CATCH_UP_SECONDS):
        while await store.client.hlen(view.keys.rows) > 1:
            await asyncio.sleep(0.01)
    assert list(await view.rows([kept])) == [kept]


@pytest.mark.parametrize("of", [OTHER, "rows.99 jobs.99"])
async def test_what_other_releases_served_goes_once_nobody_moves_it(
    store: EventStore, of: str
) -> None:
    """Older ones, and newer ones that were rolled back: which they are, no number says."""
    await a_job(store)
    other = await build(store, of=of)
    ours = await build(store)
    now_ms = await clock_ms(store)
    assert await drop_abandoned(store, now_ms, HOUR_MS) == []
    assert await drop_abandoned(store, now_ms + 2 * HOUR_MS, HOUR_MS) == [other]
    assert await all_of(store) == {ours: Role.SERVING}
    assert await keys_left(store, other) == []
    assert await keys_left(store, ours)
    with pytest.raises(StoreNotReady):
        await serving(store, of)


async def test_what_a_release_that_is_gone_has_half_built_goes_too(store: EventStore) -> None:
    ours, half = await serving(store), await half_built(store, "rows.99 jobs.99")
    assert await all_of(store) == {ours: Role.SERVING, half: Role.BUILDING}
    assert await drop_abandoned(store, await clock_ms(store) + 2 * HOUR_MS, HOUR_MS) == [half]
    assert await being_built(store, half.fingerprint) is None
    assert await keys_left(store, half) == []


async def test_a_build_begins_anew_if_what_it_was_building_was_dropped(store: EventStore) -> None:
    await lives(store, 50, Random(1))
    half = await half_built(store, OTHER)
    dropping: list[asyncio.Task[None]] = []

    def drop_it(_: building.Progress) -> None:
        if not dropping:
            dropping.append(asyncio.create_task(drop(store, half)))

    built = await build(store, drop_it, OTHER)
    await asyncio.gather(*dropping)
    assert built != half
    view = built.view(store, 0)
    assert (await view.checkpoint()).sequence == (await building.log_lengths(store))[0]
    assert await keys_left(store, half) == []


async def test_a_build_begins_anew_if_the_log_lost_the_end_that_it_was_folded_from(
    store: EventStore,
) -> None:
    job = await a_job(store)
    half = await half_built(store, OTHER)
    await store.client.hset(half.view(store, 0).keys.checkpoint, "sequence", "1")
    await store.client.hset(half.view(store, 0).keys.checkpoint, "entry", "1-1")
    with pytest.raises(LostTail):
        await half.view(store, 0).verified_checkpoint()
    built = await build(store, of=OTHER)
    assert built != half
    assert list(await built.view(store, 0).rows([job])) == [job]


async def test_a_build_keeps_its_mark_fresh_however_long_ago_it_was_begun(
    store: EventStore,
) -> None:
    await a_job(store)
    half = await half_built(store, OTHER)
    checkpoint = half.view(store, 0).keys.checkpoint
    await store.client.hset(checkpoint, "counts_ms", str(await clock_ms(store) - 2 * HOUR_MS))
    began_ms = await clock_ms(store)
    assert await build(store, of=OTHER) == half
    assert await moved_ms(store, half) >= began_ms


async def test_builds_that_race_make_one_generation(open_store: OpenStore) -> None:
    store = await open_store(shards=3)
    await lives(store, 200, Random(1))
    before = int(await store.client.hget(VIEWS, "last") or 0)
    built = await asyncio.gather(*(build(store, of=OTHER) for _ in range(3)))
    assert len({one.number for one in built}) == 1
    assert int(await store.client.hget(VIEWS, "last") or 0) == before + 1
    ours = await build(store)
    for shard in range(3):
        other = await contents(store, built[0].view(store, shard))
        assert await contents(store, ours.view(store, shard)) == other


async def test_a_build_ends_while_jobs_go_on(store: EventStore) -> None:
    """And does not run after the last entry for ever."""

    async def go_on() -> None:
        while True:
            await lives(store, 5, Random(1))

    working = asyncio.create_task(go_on())
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            for _ in range(5):
                await build(store)
    finally:
        assert not working.done()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    async with a_projector(store):
        await until_at_the_end(store, (await serving(store)).view(store, 0))
    await check_views(store)


async def test_a_build_does_not_take_the_room_that_new_jobs_need(store: EventStore) -> None:
    await a_job(store)
    served = await serving(store)
    used = int((await store.client.info("memory"))["used_memory"])
    await store.client.config_set("maxmemory", str(used * 10 // 9))
    try:
        with pytest.raises(StoreFull, match="raise maxmemory"):
            await build(store)
    finally:
        await store.client.config_set("maxmemory", "0")
    assert await serving(store) == served
    await build(store)
    await check_views(store)
