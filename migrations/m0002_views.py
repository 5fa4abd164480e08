"""Views: generations of projections beside the log, named by a hash. Building them is the plan's own step."""

from redis.asyncio import Redis

from core.keys import META
from core.records import Bounds
from core.redis import answering
from core.store import EventStore
from projections.generations import all_of, drop
from projections.keys import VIEWS

NAME = "views beside the log"


async def apply(client: Redis, _: int) -> None:
    """Idempotent: whoever builds views counts their generations here."""
    await client.hsetnx(VIEWS, "last", "0")


async def undo(client: Redis) -> None:
    """Drop all views, which a release without them would leave as they are, and in memory, for ever."""
    async with answering():
        shards = int(await client.hget(META, "shards") or 1)
    store = EventStore(client, shards, Bounds())
    for generation in await all_of(store):
        await drop(store, generation)
    async with answering():
        await client.delete(VIEWS)
