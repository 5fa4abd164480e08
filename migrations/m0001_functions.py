"""The first store: its shard count, its incarnation, and the functions of library version 1."""

from secrets import token_hex

from redis.asyncio import Redis

from core import functions
from core.keys import META

NAME = "store and functions, version 1"


async def apply(client: Redis, shards: int) -> None:
    """Idempotent: a second run after a kill finds what the first one left, and goes on."""
    await client.hsetnx(META, "shards", str(shards))
    await client.hsetnx(META, "incarnation", token_hex(8))
    await client.execute_command("FUNCTION", "LOAD", "REPLACE", functions.library_source())
