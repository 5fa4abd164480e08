"""Opening the store that a role works on: waited for, checked, and as durable as it has to be."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis

from cli.archive import archive_of
from core.durability import (
    Barrier,
    Durability,
    InBackground,
    NoBarrier,
    OfEachShard,
    Rounds,
)
from core.errors import StoreDenied, StoreError, StoreNotReady, StoreUnavailable
from core.nodes import primaries
from core.persistence import require_syncing
from core.redis import answering, connect, is_of_a_cluster
from core.settings import Settings
from core.store import EventStore
from migrations.runner import shard_count

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

STORE_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5


@asynccontextmanager
async def open_store(
    settings: Settings,
    redis_url: str,
    patience_seconds: float,
    *,
    confirm_in_background: bool = False,
) -> AsyncIterator[EventStore]:
    """The store at `redis_url`, waited for while Redis starts or the migrations run.

    Raises StoreError if it is not there in STORE_WAIT_SECONDS, and at once if its settings would
    let it delete the log, or lose what DURABILITY says that it keeps.
    """
    archive = archive_of(settings)
    client = connect(redis_url)
    try:
        shards = await patiently(lambda: shard_count(client), redis_url, StoreError)
        await patiently(lambda: _refuse_eviction(client), redis_url)
        async with _barrier(settings, redis_url, patience_seconds) as barrier:
            bounds = settings.bounds(patience_seconds)
            if not confirm_in_background:
                yield EventStore(client, shards, bounds, barrier, archive)
                return
            background = InBackground(barrier)
            try:
                yield EventStore(client, shards, bounds, background, archive)
            finally:
                await background.settle()
    finally:
        await client.aclose()


async def patiently(
    ask: Callable[[], Awaitable[Answer]],
    redis_url: str,
    trouble: type[StoreError] = StoreUnavailable,
) -> Answer:
    """The answer, asked for again while there is such `trouble`, for STORE_WAIT_SECONDS."""
    loop = asyncio.get_running_loop()
    until = loop.time() + STORE_WAIT_SECONDS
    said = False
    while True:
        try:
            return await ask()
        except (trouble, StoreDenied) as error:
            if loop.time() > until or isinstance(error, StoreDenied):  # Waiting mends no password.
                raise type(error)(
                    f"{error} (REDIS_URL is {without_password(redis_url)})"
                ) from error
            if not said:
                log.warning("waiting up to %g s: %s", STORE_WAIT_SECONDS, error)
                said = True
        await asyncio.sleep(_POLL_SECONDS)


async def _refuse_eviction(client: Redis) -> None:
    """Raises StoreNotReady for a Redis that deletes keys when it is full: the log would be the first."""
    async with answering():
        infos = [await node.info("memory") for node in await primaries(client)]
    for memory in infos:
        policy, limit = memory.get("maxmemory_policy", "noeviction"), memory.get("maxmemory", 0)
        if int(limit) and policy != "noeviction":
            raise StoreNotReady(
                f"Redis has maxmemory-policy {policy}, which deletes the log when memory is full; "
                "set it to noeviction"
            )


@asynccontextmanager
async def _barrier(
    settings: Settings, redis_url: str, patience_seconds: float
) -> AsyncIterator[Barrier]:
    """What DURABILITY asks for, on a connection of its own. Raises StoreNotReady."""
    if settings.durability is Durability.EVERYSEC:
        yield NoBarrier()
        return
    replicas = 1 if settings.durability is Durability.REPLICATED else 0
    client = connect(redis_url)
    try:
        capabilities = await patiently(
            lambda: require_syncing(
                client, settings.durability, replicated=settings.durability is Durability.REPLICATED
            ),
            redis_url,
        )

        def rounds() -> Rounds:
            return Rounds(client, capabilities, replicas, patience_seconds)

        yield OfEachShard(rounds) if is_of_a_cluster(redis_url) else rounds()
    finally:
        await client.aclose()


def without_password(url: str) -> str:
    """A URL that may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@")
