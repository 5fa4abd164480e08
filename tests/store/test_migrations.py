"""Migrations: planned, applied once by whoever is first, and refused by an older release."""

import asyncio

import pytest
from redis.asyncio import Redis

from core import functions
from core.errors import StoreNotReady, StoreUnavailable
from core.keys import META, MIGRATION_LOCK
from migrations.runner import MIGRATIONS, migrate, plan, shard_count


async def test_a_plan_changes_nothing(client: Redis) -> None:
    assert await plan(client) == list(MIGRATIONS)
    assert await client.dbsize() == 0


async def test_a_store_keeps_the_shards_that_it_was_made_with(client: Redis) -> None:
    assert await migrate(client, shards=4) == list(MIGRATIONS)
    assert await migrate(client, shards=2) == []
    assert await shard_count(client) == 4


async def test_of_many_that_migrate_at_once_one_does(client: Redis) -> None:
    applied = await asyncio.gather(*(migrate(client) for _ in range(5)))
    assert sorted(len(steps) for steps in applied) == [0, 0, 0, 0, len(MIGRATIONS)]
    assert not await client.exists(MIGRATION_LOCK)


async def test_the_lock_of_one_that_was_killed_expires(client: Redis) -> None:
    await client.set(MIGRATION_LOCK, "killed", px=100)
    assert await migrate(client) == list(MIGRATIONS)


async def test_a_lock_that_is_held_is_waited_for_and_no_longer(client: Redis) -> None:
    await client.set(MIGRATION_LOCK, "busy", px=60_000)
    with pytest.raises(StoreUnavailable, match="another process"):
        await migrate(client, wait_seconds=0.1)
    assert await client.get(MIGRATION_LOCK) == b"busy"


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
    assert await migrate(client) == list(MIGRATIONS)
    assert await client.hget(META, "incarnation") == incarnation
    assert await shard_count(client) == 4


@pytest.mark.parametrize("shards", [0, 1_025])
async def test_a_shard_count_out_of_range_is_refused(client: Redis, shards: int) -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        await migrate(client, shards)
