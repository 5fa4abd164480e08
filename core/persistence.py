"""What a Redis does to keep what it was told, and whether that is enough for a DURABILITY.

Redis with `appendfsync always` syncs its file before it sends the answers of that turn of its event
loop. WAITAOF says that it did, where the server has it; but with `everysec` Valkey (up to 9.1, at the
least) and Redis 7.4 answer it before the sync (redis#13793). So its word is taken beside that setting
and never instead of it.
"""

import logging
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from core.errors import StoreNotReady
from core.nodes import primaries
from core.redis import answering

log = logging.getLogger(__name__)

# What each of these has to be, and what it means if it is not.
_NEEDED: Final[Mapping[str, tuple[str, str]]] = {
    "appendonly": ("yes", "so nothing is on disk"),
    "appendfsync": ("always", "so it answers before it has synced"),
    "no-appendfsync-on-rewrite": ("no", "so it does not sync while it rewrites its file"),
}
CONFIG_GET: Final = ("CONFIG GET", *_NEEDED)


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a server lets us see of its durability."""

    has_waitaof: bool  # Redis 7.2, Valkey 8.
    shows_config: bool  # CONFIG GET is permitted, which managed services may not do.


def complaint(config: Mapping[str, str]) -> str | None:
    """What is wrong with a reply to CONFIG_GET, and what would be right; None if nothing is."""
    for name, (needed, meaning) in _NEEDED.items():
        value = config.get(name, needed)
        if value != needed:
            return f"it has {name} {value}, {meaning}; set {name} {needed}"
    return None


async def require_syncing(client: Redis, durability: str, *, replicated: bool) -> Capabilities:
    """What all servers of a store let us see. Raises StoreNotReady if one does not sync before it answers.

    What it does not let us see is said in the log, and so is a replica that is not there yet.
    """
    async with answering():
        nodes = await primaries(client)
    seen = [await _require_syncing(node, durability, replicated=replicated) for node in nodes]
    return Capabilities(
        has_waitaof=all(one.has_waitaof for one in seen),
        shows_config=all(one.shows_config for one in seen),
    )


async def _require_syncing(client: Redis, durability: str, *, replicated: bool) -> Capabilities:
    async with answering():
        info = await client.info("persistence")
        replicas = int((await client.info("replication")).get("connected_slaves", 0))
        config = await _config(client)
        has_waitaof = await _has_waitaof(client)
    seen = {"appendonly": "yes" if info.get("aof_enabled") else "no"} | (config or {})
    wrong = complaint(seen)
    if wrong is not None:
        raise StoreNotReady(
            f"DURABILITY={durability} needs a Redis that syncs to disk before it answers, but {wrong} "
            "(CONFIG SET for now, redis.conf for good), or choose DURABILITY=everysec"
        )
    if config is None:
        log.warning(
            "DURABILITY=%s: Redis appends to disk, but does not let us read (CONFIG GET) whether "
            "appendfsync is always and no-appendfsync-on-rewrite no: that cannot be verified",
            durability,
        )
    if replicated and not replicas:
        log.warning(
            "DURABILITY=%s: no replica is connected; no job is accepted until one is", durability
        )
    return Capabilities(has_waitaof=has_waitaof, shows_config=config is not None)


async def _config(client: Redis) -> dict[str, str] | None:
    """None if it may not be read."""
    try:
        config: dict[str, str] = await client.execute_command(*CONFIG_GET)
    except NoPermissionError:
        return None
    except ResponseError as error:
        if "unknown command" in str(error):  # Renamed away, as managed services do.
            return None
        raise
    return config


async def _has_waitaof(client: Redis) -> bool:
    try:
        await client.execute_command("WAITAOF", 0, 0, 1)
    except NoPermissionError:
        return False
    except ResponseError as error:
        if "unknown command" in str(error):
            return False
        raise
    return True
