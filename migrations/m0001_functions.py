"""The first store: its shard count and its incarnation."""

from secrets import token_hex

from redis.asyncio import Redis

from core.keys import META

NAME = "the store: its shard count and its incarnation"


async def apply(client: Redis, shards: int) -> None:
    """Idempotent: a second run after a kill finds what the first one left, and goes on."""
    await client.hsetnx(META, "shards", str(shards))
    await client.hsetnx(META, "incarnation", token_hex(8))
