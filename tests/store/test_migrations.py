"""Migrations: planned, applied once by whoever is first, and refused by an older release."""

import asyncio
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from core import functions, lock
from core.errors import FromTheFuture, StoreNotReady, StoreUnavailable
from core.keys import META, MIGRATION_LOCK
from core.records import Bounds
from core.store import EventStore
from migrations.plan import MIGRATIONS, Kind, Step, difference, plan
from migrations.runner import Begun, CannotFold, Done, Event, Waiting, migrate, shard_count
from projections.building import Progress, build
from projections.generations import drop, serving
from projections.registry import fingerprint
from projections.replay.repair import repair
from tests.conftest import OpenStore
from tests.given import a_job
from tests.projections.views import check_views, lives

ALL = [*(Kind.MIGRATION for _ in MIGRATIONS), Kind.FUNCTIONS, Kind.VIEWS]
LOCK_MS = 300


@pytest.fixture
async def client(client: Redis) -> Redis:
    """A connection to a server that has no functions either."""
    await client.execute_command("FUNCTION", "FLUSH")
    return client


def kinds(steps: list[Step]) -> list[Kind]:
    return [step.kind for step in steps]


async def without_views(store: EventStore) -> None:
    """As before this release's projections were there."""
    await drop(store, await serving(store))


async def test_a_plan_changes_nothing(client: Redis) -> None:
    assert kinds(await plan(client)) == ALL
    assert await client.dbsize() == 0


async def test_a_store_keeps_the_shards_that_it_was_made_with(client: Redis) -> None:
    assert kinds(await migrate(client, shards=4)) == ALL
    assert await migrate(client, shards=2) == []
    assert await shard_count(client) == 4


async def test_of_many_that_migrate_at_once_one_does_and_the_others_say_whom_they_wait_for(
    client: Redis,
) -> None:
    waited: list[Event] = []
    applied = await asyncio.gather(
        *(
            migrate(client, told=lambda event: waited.append(event) if _waits(event) else None)
            for _ in range(5)
        )
    )
    assert sorted(len(steps) for steps in applied) == [0, 0, 0, 0, len(ALL)]
    assert len(waited) == 4
    assert all("process " in event.holder for event in waited if isinstance(event, Waiting))
    assert not await client.exists(MIGRATION_LOCK)


def _waits(event: Event) -> bool:
    return isinstance(event, Waiting)


async def test_the_lock_of_one_that_was_killed_expires(client: Redis) -> None:
    await client.set(MIGRATION_LOCK, "killed", px=100)
    assert kinds(await migrate(client)) == ALL


async def test_a_lock_that_is_held_is_waited_for_and_no_longer(client: Redis) -> None:
    await client.set(MIGRATION_LOCK, "busy", px=60_000)
    with pytest.raises(StoreUnavailable, match="another process is migrating the store"):
        await migrate(client, wait_seconds=0.1)
    assert await client.get(MIGRATION_LOCK) == b"busy"


async def test_a_lock_is_renewed_while_its_holder_works(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_MS", LOCK_MS)

    async def work() -> int:
        await asyncio.sleep(3 * LOCK_MS / 1_000)
        return int(await client.pttl(MIGRATION_LOCK))

    assert await lock.while_locked(client, lock.MIGRATING, work, 0, lambda _: None) > 0
    assert not await client.exists(MIGRATION_LOCK)


@pytest.mark.parametrize("to", [None, "another's"])
async def test_a_lock_that_is_lost_stops_the_work(
    client: Redis, monkeypatch: pytest.MonkeyPatch, to: str | None
) -> None:
    """Whether it was forgotten, or is another's now, whose it stays."""
    monkeypatch.setattr(lock, "LOCK_MS", LOCK_MS)
    stopped = asyncio.Event()

    async def work() -> None:
        if to is None:
            await client.delete(MIGRATION_LOCK)
        else:
            await client.set(MIGRATION_LOCK, to)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    with pytest.raises(StoreUnavailable, match="lock for migrating the store was lost"):
        await lock.while_locked(client, lock.MIGRATING, work, 0, lambda _: None)
    assert stopped.is_set()
    assert await client.get(MIGRATION_LOCK) == (None if to is None else to.encode())


async def test_a_store_of_a_newer_release_is_left_alone(client: Redis) -> None:
    await migrate(client)
    await client.hset(META, "migration", "99")
    with pytest.raises(StoreNotReady, match="upgrade"):
        await shard_count(client)


async def test_a_store_that_was_never_migrated_says_what_to_run(client: Redis) -> None:
    with pytest.raises(StoreNotReady, match="respool migrate"):
        await shard_count(client)


async def test_lost_functions_are_brought_back_without_touching_the_data(client: Redis) -> None:
    await migrate(client, shards=4)
    incarnation = await client.hget(META, "incarnation")
    await client.execute_command("FUNCTION", "DELETE", functions.LIBRARY)
    assert kinds(await plan(client)) == [Kind.FUNCTIONS]
    assert kinds(await migrate(client)) == [Kind.FUNCTIONS]
    assert await client.hget(META, "incarnation") == incarnation
    assert await shard_count(client) == 4


@pytest.mark.parametrize("shards", [0, 1_025])
async def test_a_shard_count_out_of_range_is_refused(client: Redis, shards: int) -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        await migrate(client, shards)


async def test_views_are_planned_by_what_there_is_to_fold_and_what_changed(
    store: EventStore,
) -> None:
    await lives(store, 30, Random(1))
    entries = int(await store.client.get(store.shards[0].sequence) or 0)
    await build(store, of=fingerprint().replace("jobs.", "jobs.0"))
    await without_views(store)
    [step] = await plan(store.client)
    assert (step.kind, step.name, step.entries) == (Kind.VIEWS, fingerprint(), entries)
    [change] = step.changed
    assert change.startswith("jobs 0")
    assert f"to be folded from {entries} log entries; {change}" in str(step)
    assert kinds(await migrate(store.client)) == [Kind.VIEWS]
    assert await plan(store.client) == []
    await check_views(store)


def test_what_changed_is_said_in_words() -> None:
    assert difference(None, "rows.1 jobs.1") == ("the first that it has",)
    assert difference("rows.1 jobs.1 usage.3", "rows.1 jobs.2 queues.1") == (
        "jobs 1 is 2 now",
        "queues is new",
        "usage is no more",
    )


async def test_jobs_need_no_views(store: EventStore) -> None:
    """So workers go on while they are built."""
    await without_views(store)
    assert await shard_count(store.client) == 1


async def test_it_says_how_far_it_is(store: EventStore) -> None:
    await lives(store, 30, Random(1))
    await without_views(store)
    told: list[Event] = []
    [step] = await migrate(store.client, told=told.append)
    assert isinstance(told[0], Begun)
    assert isinstance(told[-1], Done)
    assert told[-2] == Progress(step.entries or 0, step.entries or 0)


async def test_views_reach_as_far_back_as_ended_jobs_are_kept(open_store: OpenStore) -> None:
    store = await open_store()
    await a_job(store)
    await without_views(store)
    keeping_ms = 100 * 24 * 3_600_000
    await migrate(store.client, bounds=Bounds(retention_ms=keeping_ms))
    at = await (await serving(store)).view(store, 0).checkpoint()
    assert at.horizon.counts_ms - at.horizon.rows_ms > keeping_ms


async def corrupt(store: EventStore, job: str, **fields: str) -> str:
    """Add an entry to the log as no release writes it; its id."""
    last = int(await store.client.get(store.shards[0].sequence) or 0)
    entry: dict[Any, Any] = {
        "j": job,
        "v": "2",
        "t": "expired",
        "d": '{"type":"expired","deadline_ms":1}',
        "o": "x",
        "s": "1",
    }
    added: Any = await store.client.xadd(store.shards[0].log, entry | {"q": str(last + 1)} | fields)
    await store.client.set(store.shards[0].sequence, fields.get("q", str(last + 1)))
    return str(added.decode())


async def test_what_cannot_be_folded_is_named_and_can_be_left_out(store: EventStore) -> None:
    job, other = await a_job(store), await a_job(store)
    await without_views(store)
    entry = await corrupt(store, job, v="9")
    with pytest.raises(CannotFold, match=r"replay verify.* --park") as error:
        await migrate(store.client)
    assert entry in str(error.value)
    assert job in str(error.value)
    assert kinds(await migrate(store.client, strict=False)) == [Kind.VIEWS]
    view = (await serving(store)).view(store, 0)
    assert list(await view.parked()) == [job]
    assert other in await view.rows([other])


async def test_a_log_that_lacks_entries_is_named_with_the_way_out(store: EventStore) -> None:
    job = await a_job(store)
    await without_views(store)
    await corrupt(store, job, q="3")
    with pytest.raises(CannotFold, match=r"lacks number 2.*--accept-gaps"):
        await migrate(store.client)
    await repair(store, accept_gaps=True)
    await migrate(store.client)
    assert await plan(store.client) == []


async def test_what_a_newer_release_has_written_is_not_folded_by_this_one(
    store: EventStore,
) -> None:
    job = await a_job(store)
    await without_views(store)
    await corrupt(store, job, t="teleported")
    with pytest.raises(FromTheFuture, match=r"of shard 0.*'teleported'.*upgrade"):
        await migrate(store.client)
