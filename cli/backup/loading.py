"""Bringing a dump into an empty Redis: it becomes our replica, loads it, writes it to disk, and is itself again."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis

from cli.backup.primary import Primary
from cli.backup.transfer import rdb_version
from core.errors import StoreError, StoreNotReady, StoreUnavailable
from core.keys import META, ShardKeys
from core.redis import answering
from projections.archive.spans import ARCHIVED_BEFORE, with_another

_COMING_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
_REPLY_SECONDS: Final = 30.0
_VALKEYS_OWN: Final = 80  # The first version of the format that is Valkey's and not Redis's.
_COMMON: Final = 11  # The last one that both have.


class Restored(Struct, frozen=True):
    """What has come back."""

    incarnation: str
    before: str  # The incarnation that the backup was made of.
    shards: int


async def load(
    client: Redis, dump: Path, listen: str | None, told: Callable[[int, int | None], None]
) -> Restored:
    """Load a dump into an empty Redis, under a new incarnation; what fails leaves it empty.

    `listen` is the address of ours that Redis is to connect to; None: the one from which we reach it. Raises
    StoreNotReady for a Redis that is not empty, is no primary, does not append to disk, or cannot read the dump;
    StoreError, StoreUnavailable.
    """
    await _require_fit(client, dump)
    address = listen or await _our_address(client)
    async with Primary.listening(address) as primary, _replica_of(primary, client):
        await primary.until_asked(_COMING_SECONDS)
        await _require_empty(client)  # Again, as from now on nobody else can write.
        await primary.give(dump, told)  # Of a part of it Redis keeps nothing.
        try:
            await _until_loaded(client, primary)
            restored = await _rename(client, primary)
            await _until_on_disk(client)
        except BaseException:
            await _empty_again(client, primary)
            raise
    return restored


async def _require_fit(client: Redis, dump: Path) -> None:
    async with answering():
        info = await client.info()
    if info.get("role") != "master":
        raise StoreNotReady(
            f"it is a replica (of {info.get('master_host')}), and a restore is into a primary; if an earlier "
            "restore was killed: REPLICAOF NO ONE, FLUSHALL, and again"
        )
    if info.get("cluster_enabled"):
        raise StoreNotReady("a node of a cluster takes no dump: restore into a Redis of its own")
    if not info.get("aof_enabled"):
        raise StoreNotReady(
            "it has appendonly no, so what is restored would be gone with its next restart: "
            "CONFIG SET appendonly yes (and redis.conf for good)"
        )
    await _require_empty(client)
    if (await _config(client, "tls-replication")) == "yes":
        raise StoreNotReady(
            "it has tls-replication yes, and a backup is given without TLS: CONFIG SET tls-replication no "
            "while it is restored, over a network that is yours"
        )
    has = await _reads_up_to(client)
    with dump.open("rb") as file:
        needs = rdb_version(file.read(9))
    if needs is None:
        raise StoreNotReady(f"{dump} is no dump of Redis or Valkey")
    if needs > has or _COMMON < needs < _VALKEYS_OWN <= has:
        server = f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info.get('redis_version')}"
        raise StoreNotReady(
            f"{dump.name} is in version {needs} of the dump's format, and this server ({server}) reads up to "
            f"{min(has, _COMMON) if needs < _VALKEYS_OWN else has}: restore into the kind of server, and at "
            "least the version, that the backup is of"
        )


async def _keys(client: Redis) -> dict[str, Any]:
    """How many keys there are in each database that has any."""
    async with answering():
        keys: dict[str, Any] = await client.info("keyspace")
    return keys


async def _require_empty(client: Redis) -> None:
    keys = await _keys(client)
    if keys:
        has = ", ".join(f"{name}: {said['keys']} keys" for name, said in sorted(keys.items()))
        raise StoreNotReady(
            f"it is not empty ({has}), and a restore replaces everything: name an empty Redis, or, once you "
            "are sure that nobody needs what it has, FLUSHALL"
        )


async def _reads_up_to(client: Redis) -> int:
    """The version of the dump's format that a server writes, from what DUMP puts behind a value."""
    probe = ShardKeys(0).prefix + "restoring"
    async with answering(), client.pipeline(transaction=True) as pipe:
        pipe.execute_command("SET", probe, "1", "PX", 60_000)
        pipe.execute_command("DUMP", probe)
        pipe.execute_command("DEL", probe)
        _, dumped, _ = await pipe.execute()
    return int.from_bytes(dumped[-10:-8], "little")


async def _our_address(client: Redis) -> str:
    """The address from which we reach Redis, so likely one at which it reaches us."""
    pool: Any = client.connection_pool
    async with answering():
        connection = await pool.get_connection()
    try:
        name = connection._writer.get_extra_info("sockname")  # noqa: SLF001
    finally:
        await pool.release(connection)
    return str(name[0]) if isinstance(name, tuple) else "127.0.0.1"  # A socket of this machine.


@asynccontextmanager
async def _replica_of(primary: Primary, client: Redis) -> AsyncIterator[None]:
    """Redis is our replica in this block, and a primary as it was afterwards, whatever happens."""
    before = {name: await _config(client, name) for name in ("masterauth", "masteruser")}
    async with answering():
        await client.execute_command("CONFIG", "SET", "masterauth", primary.secret)
        await client.execute_command("CONFIG", "SET", "masteruser", "")
    try:
        async with answering():
            await client.execute_command("REPLICAOF", primary.host, primary.port)
        yield
    finally:
        async with answering():
            await client.execute_command("REPLICAOF", "NO", "ONE")
            for name, value in before.items():
                await client.execute_command("CONFIG", "SET", name, value)


async def _config(client: Redis, name: str) -> str:
    """A setting; empty if there is none of that name."""
    async with answering():
        said = await client.config_get(name)
    return str(next(iter(said.values()), ""))


async def _until_loaded(client: Redis, primary: Primary) -> None:
    """Wait until the dump is in memory. However long that takes, it ends, or Redis leaves."""
    while True:
        with suppress(StoreUnavailable):  # It says LOADING.
            async with answering():
                info = await client.info()
            if info.get("master_link_status") == "up" and not info.get("loading"):
                return
        if primary.has_left.is_set():
            raise StoreUnavailable("Redis has not loaded the backup; its log says why")
        await asyncio.sleep(_POLL_SECONDS)


async def _rename(client: Redis, primary: Primary) -> Restored:
    """Give the store a new incarnation, while nobody but its primary can write to it.

    So whoever worked on it before knows that it is another one, from the first moment at which it can be
    written to; and what it archives from now on is not mixed up with what was archived after the backup.
    """
    async with answering():
        before, shards, earlier = await client.execute_command(
            "HMGET", META, "incarnation", "shards", ARCHIVED_BEFORE
        )
    if before is None:
        raise StoreNotReady("the dump has no store of Respool in it; nothing was restored")
    numbers = []
    for shard in range(int(shards)):
        async with answering():
            number = await client.execute_command("HGET", ShardKeys(shard).archived, "sequence")
        numbers.append(int(number or 0))
    new = secrets.token_hex(8)
    database = client.connection_pool.connection_kwargs.get("db", 0)
    await primary.tell("SELECT", str(database))
    lineage = with_another(earlier, before.decode(), numbers)
    await primary.tell("HSET", META, "incarnation", new, ARCHIVED_BEFORE, json.dumps(lineage))
    loop = asyncio.get_running_loop()
    until = loop.time() + _REPLY_SECONDS
    while loop.time() < until:
        async with answering():
            if await client.hget(META, "incarnation") == new.encode():
                return Restored(new, before.decode(), int(shards))
        await asyncio.sleep(_POLL_SECONDS)
    raise StoreUnavailable("Redis has the backup, and takes no command after it; its log says why")


async def _empty_again(client: Redis, primary: Primary) -> None:
    with suppress(StoreError, TimeoutError):
        await primary.tell("FUNCTION", "FLUSH")
        await primary.tell("FLUSHALL")
        async with asyncio.timeout(_REPLY_SECONDS):
            while await _keys(client):
                await asyncio.sleep(_POLL_SECONDS)


async def _until_on_disk(client: Redis) -> None:
    """Wait until the append-only file has it all. Raises StoreError if it cannot be written."""
    while True:
        async with answering():
            info = await client.info("persistence")
        is_writing = info.get("aof_rewrite_in_progress") or info.get("aof_rewrite_scheduled")
        if info.get("aof_enabled") and not is_writing:
            if info.get("aof_last_bgrewrite_status") != "ok":
                raise StoreError("Redis cannot write its append-only file; its log says why")
            return
        await asyncio.sleep(_POLL_SECONDS)
