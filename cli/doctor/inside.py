"""What Redis and the store say of themselves."""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cli.doctor import facts
from cli.doctor.facts import Unknown
from cli.embedded import DataDirError, running_store
from core.bells import Bells
from core.errors import StoreError
from core.key_book import KeyBook
from core.nodes import primaries, spread
from core.redis import REPLY_TIMEOUT_SECONDS, answering, connect
from core.roster import Roster
from core.settings import Settings
from core.store import EventStore
from migrations.plan import plan, required, shards_of
from projections.reading.cluster import cluster
from projections.reading.position import Reader
from projections.reading.queues import queues


async def redis_and_store(
    settings: Settings,
) -> tuple[facts.Redis | Unknown, facts.Store | Unknown]:
    """Both, as far as Redis answers."""
    try:
        url = settings.redis_url or await running_store(settings.respool_data_dir)
    except DataDirError as error:
        return Unknown(str(error)), Unknown(str(error))
    client = connect(url)
    try:
        return await _or_why(_redis(client)), await _or_why(_store(client, settings))
    finally:
        await client.aclose()


async def _or_why(asking: Any) -> Any:
    try:
        return await asking
    except StoreError as error:
        return Unknown(str(error), is_down=True)


async def _redis(client: Redis) -> facts.Redis:
    async with answering():
        nodes = await primaries(client)
    return max([await _server(node) for node in nodes], key=_trouble)


def _trouble(one: facts.Redis) -> tuple[Any, ...]:
    """How badly off a server is, what matters most first."""
    used = one.used_bytes / one.limit_bytes if one.limit_bytes else 0.0
    return (
        one.policy != "noeviction",
        not one.appends,
        one.appendfsync == "no",
        used,
        one.clients / one.clients_max,
    )


async def _server(client: Redis) -> facts.Redis:
    async with answering():
        began = time.time()
        seconds, microseconds = await client.time()
        ended = time.time()
        info = await client.info()
    config = await _config(client)
    version = info.get("valkey_version") or info["redis_version"]
    return facts.Redis(
        kind=str(info.get("server_name", "redis")),
        version=tuple(int(part) for part in str(version).split(".") if part.isdigit()),
        appends=bool(info.get("aof_enabled")),
        appendfsync=config.get("appendfsync"),
        save=config.get("save"),
        policy=str(info.get("maxmemory_policy", "noeviction")),
        used_bytes=int(info["used_memory"]),
        limit_bytes=int(info.get("maxmemory", 0)),
        machine_bytes=int(info.get("total_system_memory", 0)),
        clients=int(info["connected_clients"]),
        clients_max=int(info.get("maxclients", 0)) or 10_000,
        ahead_seconds=int(seconds) + int(microseconds) / 1e6 - (began + ended) / 2,
        round_trip_seconds=ended - began,
    )


async def _config(client: Redis) -> dict[str, str]:
    """Settings, where they may be read."""
    try:
        async with answering():
            said = await client.config_get("appendfsync", "save")
    except (StoreError, ResponseError):
        return {}
    return {str(name): str(value) for name, value in said.items()}


async def _store(client: Redis, settings: Settings) -> facts.Store:
    lacking = tuple(str(step) for step in await plan(client))
    if await required(client):  # Nothing else can be asked.
        return facts.Store(lacking=lacking)
    store = EventStore(client, await shards_of(client), settings.bounds(REPLY_TIMEOUT_SECONDS))
    seen, members = await asyncio.gather(cluster(store), Roster(store).members())
    book = KeyBook(client)
    await book.catch_up()
    async with answering():
        nodes, idle = await spread(client, [keys.prefix for keys in store.shards])
    live = [key for key in book.keys.values() if key.is_live(book.now_ms())]
    return facts.Store(
        lacking=lacking,
        workers=tuple(
            facts.Worker(one.name, one.worker.capacity, one.worker.upstream)
            for one in members
            if one.name in seen.capacity
        ),
        lag_entries=seen.lag_entries,
        shards=len(store.shards),
        nodes=nodes,
        idle=idle,
        live_keys=len(live),
        unlimited_keys=sum(key.limits.requests_per_minute is None for key in live),
        slowest_run_seconds=await _slowest(store),
    )


async def _slowest(store: EventStore) -> float | None:
    bells = Bells(store.client)
    try:
        _, found = await queues(Reader(store, bells))
    except StoreError:
        return None  # No view serves, which has a box of its own.
    finally:
        bells.close()
    return max(
        (one.run_seconds.p99 for one in found if one.run_seconds.p99 is not None), default=None
    )
