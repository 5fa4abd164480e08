"""Views: the function library of version 3, and a first generation of projections, folded from the log."""

from redis.asyncio import Redis

from core import functions
from core.keys import META
from core.store import Bounds, EventStore
from projections.building import build

NAME = "functions, version 3, and views"


async def apply(client: Redis, _: int) -> None:
    """Idempotent: a second run after a kill goes on from the checkpoints of the first one."""
    await client.execute_command("FUNCTION", "LOAD", "REPLACE", functions.library_source())
    shards = int(await client.hget(META, "shards") or 1)
    await build(EventStore(client, shards, Bounds()))
