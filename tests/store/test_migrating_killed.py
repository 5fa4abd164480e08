"""Migrations that are killed at each of their calls, and run again: as if nothing had happened."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.keys import META, MIGRATION_LOCK
from core.records import Bounds
from core.store import EventStore
from migrations.plan import plan, shards_of
from migrations.rollback import plan_rollback, roll_back
from migrations.runner import migrate
from projections import building
from projections.generations import Role, all_of
from projections.keys import VIEWS
from tests.projections.views import check_views
from tests.servers import RedisServer
from tests.store.audit import audit
from tests.store.killing import Killed, Mortal
from tests.stores.recording import load

EARLIER = Path(__file__).parents[1] / "stores" / "library-2.jsonl"
BATCH_ENTRIES = 40  # So that there are many commits to be killed at.


async def an_earlier_store(client: Redis) -> EventStore:
    await client.flushall()
    await client.execute_command("FUNCTION", "FLUSH")
    await load(client, EARLIER.read_bytes())
    return EventStore(client, await shards_of(client), Bounds())


async def killed_after(
    server: RedisServer, commands: int, work: Callable[[Redis], Awaitable[object]]
) -> bool:
    """Work as a process that is killed after so many commands; whether it came to that."""
    mortal = Mortal(server.url, commands)
    with suppress(Killed):
        await work(mortal.client)
    await mortal.bury()
    return mortal.is_dead


async def keys_of_views(client: Redis) -> set[str]:
    return {key.decode().split(":")[3] async for key in client.scan_iter("*:view:*")}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "BATCH_ENTRIES", BATCH_ENTRIES)


async def test_one_that_is_killed_at_any_of_its_calls_and_run_again_is_as_one_that_was_not(
    server: RedisServer, client: Redis, small_batches: None
) -> None:
    await an_earlier_store(client)
    await migrate(client)
    meta = await client.hgetall(META)
    commands, is_killed = 0, True
    while is_killed:
        commands += 1
        store = await an_earlier_store(client)
        is_killed = await killed_after(server, commands, migrate)
        await client.delete(MIGRATION_LOCK)  # As it does by itself, later.
        await migrate(client)
        assert await plan(client) == []
        assert await client.hgetall(META) == meta
        await check_views(store)
        [[generation, role]] = (await all_of(store)).items()
        assert role is Role.SERVING
        assert await keys_of_views(client) == {str(generation.number)}
    assert commands > 50
    await audit(store)


async def test_one_that_is_undone_killed_at_any_of_its_calls_and_undone_again_leaves_nothing(
    server: RedisServer, client: Redis
) -> None:
    commands, is_killed = 0, True
    while is_killed:
        commands += 3  # Every third call: each takes a store of its own.
        store = await an_earlier_store(client)
        await migrate(client)
        is_killed = await killed_after(server, commands, lambda dying: roll_back(dying, 1))
        await client.delete(MIGRATION_LOCK)
        await roll_back(client, 1)
        assert await client.hget(META, "migration") == b"1"
        assert await plan_rollback(client, 1) == []
        assert not await client.exists(VIEWS)
        assert await keys_of_views(client) == set()
    assert commands > 15
    await migrate(client)
    await check_views(store)
    await audit(store)
