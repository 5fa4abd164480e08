"""Views are exactly the fold of their log: each entry once, whoever else runs, and whatever goes wrong."""

import asyncio
from random import Random
from typing import Any

import pytest
from msgspec import structs

from core import functions
from core.errors import FromTheFuture
from core.store import EventStore
from projections.building import build, clock_ms
from projections.checkpoint import Held, LostTail, Moved, View
from projections.feed import Gap
from projections.fold import Changes
from projections.generations import serving
from projections.rows import JobRow, Unfoldable
from projections.runner import Runner
from tests.conftest import OpenStore
from tests.given import a_job
from tests.projections.views import catch_up, check_views, contents, lives


async def the_view(store: EventStore) -> View:
    return (await serving(store)).view(store, 0)


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_view_is_the_fold_of_its_log(open_store: OpenStore, shards: int) -> None:
    store = await open_store(shards=shards)
    for seed in range(5):
        await lives(store, 40, Random(seed))
        await catch_up(store)
        await check_views(store)


async def test_a_view_that_was_built_is_the_one_that_was_kept_up(store: EventStore) -> None:
    await lives(store, 60, Random(1))
    await catch_up(store)
    kept_up = await contents(store, await the_view(store))
    await build(store)
    assert await contents(store, await the_view(store)) == kept_up


@pytest.mark.parametrize("strict", [False, True])
async def test_runners_that_race_fold_every_entry_once(store: EventStore, strict: bool) -> None:
    """And none of them finds fault with an entry because another one was faster."""
    for seed in range(5):
        submitting = asyncio.create_task(lives(store, 100, Random(seed)))
        while not submitting.done():
            await asyncio.gather(*(catch_up(store, size, strict=strict) for size in (3, 5, 11)))
        await submitting
    await catch_up(store)
    await check_views(store)


async def test_the_end_that_is_lost_while_it_is_folded_is_not_committed(store: EventStore) -> None:
    await a_job(store)
    view = await the_view(store)
    at = await view.checkpoint()
    gone = structs.replace(at, sequence=2, entry="1-1")
    with pytest.raises(LostTail, match="has lost entry 1-1"):
        await view.commit(at, gone, Changes())
    assert await view.checkpoint() == at


async def test_a_commit_onto_a_checkpoint_that_has_moved_is_refused(store: EventStore) -> None:
    await a_job(store)
    slow = Runner(store, await the_view(store))
    assert await slow.advance() == 1
    await a_job(store)
    await catch_up(store)
    await a_job(store)
    with pytest.raises(Moved):
        await slow.advance()
    assert await slow.advance() == 1  # From where the other one is.
    await check_views(store)


async def test_a_commit_to_views_that_were_dropped_is_refused(store: EventStore) -> None:
    await a_job(store)
    late = Runner(store, await the_view(store))
    await late.advance()
    await build(store)
    await a_job(store)
    with pytest.raises(Moved):
        await late.advance()


async def test_a_view_that_is_held_stands_still_for_as_long(store: EventStore) -> None:
    await a_job(store)
    view = await the_view(store)
    until_ms = await clock_ms(store) + 60_000
    await store.client.hset(view.keys.checkpoint, "held_until_ms", str(until_ms))
    runner = Runner(store, view)
    with pytest.raises(Held) as held:
        await runner.advance()
    assert 0 < held.value.seconds <= 60
    await store.client.hdel(view.keys.checkpoint, "held_until_ms")
    assert await runner.advance() == 1
    await check_views(store)


async def test_a_lost_tail_is_an_error_that_says_what_to_do(store: EventStore) -> None:
    """Other entries may have the numbers of those that are gone."""
    for _ in range(5):
        await a_job(store)
    await catch_up(store)
    keys, client = store.shards[0], store.client
    last = (await store.feed(0, "0-0"))[-1]
    await client.xdel(keys.log, last.id)
    await client.set(keys.sequence, 4)
    await a_job(store)
    with pytest.raises(LostTail, match="respool replay repair"):
        await Runner(store, await the_view(store)).advance()
    await build(store)
    await check_views(store)


async def test_a_missing_entry_is_never_passed_over(store: EventStore) -> None:
    for _ in range(5):
        await a_job(store)
    entries = await store.feed(0, "0-0")
    await store.client.xdel(store.shards[0].log, entries[2].id)
    with pytest.raises(Gap, match=f"lacks number 3: entry {entries[1].id} is followed by"):
        await Runner(store, await the_view(store)).advance()
    assert (await (await the_view(store)).checkpoint()).sequence == 0


async def test_a_runner_stops_at_an_event_from_the_future(store: EventStore) -> None:
    """What comes before it is in the views, and a newer runner goes on from there."""
    await a_job(store)
    keys, client = store.shards[0], store.client
    entry: dict[Any, Any] = {"j": "somebody", "v": 1, "t": "promoted", "d": "{}", "o": "x", "q": 2}
    await client.xadd(keys.log, entry | {"s": 1})
    runner = Runner(store, await the_view(store))
    for _ in range(2):
        with pytest.raises(FromTheFuture, match="no event of type 'promoted'"):
            await runner.advance()
    assert (await (await the_view(store)).checkpoint()).sequence == 1


async def test_an_entry_that_nobody_can_read_parks_its_job_and_no_other(store: EventStore) -> None:
    job = await a_job(store)
    keys, client = store.shards[0], store.client
    broken: dict[Any, Any] = {"j": job, "v": 2, "t": "claimed", "d": '{"claim":', "o": "x", "q": 2}
    await client.xadd(keys.log, broken | {"s": 1})
    await client.set(keys.sequence, 2)
    other = await a_job(store)
    await catch_up(store, batch_entries=1)
    view = await the_view(store)
    assert (await view.parked()).keys() == {job}
    assert set(await view.rows([job, other])) == {job, other}
    with pytest.raises(Unfoldable, match=f"of {job}: it cannot be read"):
        await build(store)


async def test_an_event_of_a_job_without_its_first_one_parks_it(store: EventStore) -> None:
    keys, client = store.shards[0], store.client
    stray: dict[Any, Any] = {
        "j": "nobody",
        "v": 2,
        "t": "queued",
        "d": '{"type":"queued"}',
        "o": "x",
    }
    await client.xadd(keys.log, stray | {"q": 1, "s": 1})
    await client.set(keys.sequence, 1)
    await a_job(store)
    await catch_up(store)
    parked = await (await the_view(store)).parked()
    assert "version 2 of nobody, whose version 1 should come next" in parked["nobody"].why


async def test_what_ended_long_ago_is_forgotten(open_store: OpenStore) -> None:
    store = await open_store(retention_ms=1_000)
    await lives(store, 80, Random(3))
    await catch_up(store)
    view = await the_view(store)
    kept = [row for row in (await all_rows(store, view)) if row.ended_ms is None]
    runner = Runner(store, view)
    await runner.prune(await clock_ms(store) + 100_000)
    assert {row.id for row in await all_rows(store, view)} == {row.id for row in kept}
    await check_views(store)
    assert "usage" in {name.partition(":")[0] for name in await view.names()}


async def test_counters_are_forgotten_when_their_buckets_are_old(store: EventStore) -> None:
    await lives(store, 30, Random(4))
    await catch_up(store)
    view = await the_view(store)
    in_two_days = await clock_ms(store) + 2 * 86_400_000
    await Runner(store, view).prune(in_two_days)
    kinds = {name.partition(":")[0] for name in await view.names()}
    assert not kinds & {"pulse", "done"}
    assert {"usage", "outcomes"} <= kinds
    await check_views(store)


async def all_rows(store: EventStore, view: View) -> list[JobRow]:
    subjects = [name.decode() for name in await store.client.hkeys(view.keys.rows)]  # type: ignore[union-attr]
    rows = (await view.rows(subjects)).values()
    return [row for row in rows if isinstance(row, JobRow)]


async def test_a_full_redis_does_not_stop_the_views(store: EventStore) -> None:
    await lives(store, 30, Random(5))
    await store.client.config_set("maxmemory", "1mb")
    try:
        await catch_up(store)
        await check_views(store)
    finally:
        await store.client.config_set("maxmemory", "0")


async def test_where_the_views_are_not_built_that_is_said(store: EventStore) -> None:
    await functions.call(
        store.client, "project_stopped", ["respool:{0}:view:9:checkpoint"], {"why": "x"}
    )
    assert not await store.client.exists("respool:{0}:view:9:checkpoint")
