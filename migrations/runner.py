"""Applies the numbered migrations in order, once each, whoever else tries at the same time.

The lock expires, so a migration that was killed does not block the next try; each migration is
idempotent, so the next try goes on where that one stopped.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct
from redis.asyncio import Redis

from core import functions
from core.errors import StoreNotReady, StoreUnavailable
from core.ids import SHARDS_MAX
from core.keys import META, MIGRATION_LOCK
from core.redis import answering
from migrations import m0001_functions, m0002_views

LOCK_MS: Final = 30_000
_LOCK_POLL_SECONDS: Final = 0.2

# Deletes the lock only if it is still ours; compare-and-delete has no command in Redis 7.
_UNLOCK: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Migration(Struct, frozen=True):
    """One numbered step. It is never edited after a release."""

    number: int
    name: str
    apply: Callable[[Redis, int], Awaitable[None]]


MIGRATIONS: Final = (
    Migration(1, m0001_functions.NAME, m0001_functions.apply),
    Migration(2, m0002_views.NAME, m0002_views.apply),
)


async def plan(client: Redis) -> list[Migration]:
    """The migrations that the store still lacks. Raises StoreUnavailable."""
    async with answering():
        applied = await client.hget(META, "migration")
        loaded = await client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", functions.LIBRARY)
    last = int(applied or 0)
    if last > MIGRATIONS[-1].number:
        raise StoreNotReady(
            f"the store has migration {last}, and this release knows up to "
            f"{MIGRATIONS[-1].number}: it was migrated by a newer release, so upgrade this one"
        )
    if not loaded:
        # A restored dump has the data and no functions; every migration can run again.
        return list(MIGRATIONS)
    return [migration for migration in MIGRATIONS if migration.number > last]


async def migrate(client: Redis, shards: int = 1, wait_seconds: float = 60.0) -> list[Migration]:
    """Apply what the store lacks, and say what that was.

    `shards` counts for a new store only: an existing one keeps its own. Raises StoreUnavailable if
    Redis does not answer or another process holds the lock for longer than `wait_seconds`.
    """
    if not 1 <= shards <= SHARDS_MAX:
        raise ValueError(f"a store has 1 to {SHARDS_MAX} shards, not {shards}")
    if not await plan(client):
        return []  # And no lock: a full Redis would refuse it.
    token = secrets.token_hex(8)
    await _lock(client, token, wait_seconds)
    try:
        steps = await plan(client)
        for step in steps:
            async with answering():
                await step.apply(client, shards)
                await client.hset(META, "migration", step.number)
                await client.pexpire(MIGRATION_LOCK, LOCK_MS)
        return steps
    finally:
        async with answering():
            await client.eval(_UNLOCK, 1, MIGRATION_LOCK, token)


async def shard_count(client: Redis) -> int:
    """How many shards the store was made with. Raises StoreNotReady if it was never migrated."""
    if await plan(client):
        raise StoreNotReady("the store lacks migrations: run `respool migrate`")
    async with answering():
        return int(await client.hget(META, "shards") or 1)


async def _lock(client: Redis, token: str, wait_seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        async with answering():
            if await client.set(MIGRATION_LOCK, token, nx=True, px=LOCK_MS):
                return
        if asyncio.get_running_loop().time() > deadline:
            raise StoreUnavailable("another process has been migrating the store for too long")
        await asyncio.sleep(_LOCK_POLL_SECONDS)
