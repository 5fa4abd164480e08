"""What every test may ask for: a store on a real server, emptied before each test."""

import gc
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import Phase, settings
from redis.asyncio import Redis

from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from tests.servers import SERVERS, RedisServer, running

# For runs that only ask whether anything fails, not for the smallest way to make it fail.
settings.register_profile("no-shrinking", phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

OpenStore = Callable[..., Coroutine[Any, Any, EventStore]]


def pytest_collection_finish() -> None:
    """Have the collector leave alone what all tests share: looking through it took a tenth of their time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session", params=["valkey"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A server that lasts for all tests; the store's and the workers' suites also run on Redis."""
    with running(SERVERS[request.param](tmp_path_factory.mktemp(request.param))) as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    """A connection to the server, which holds nothing."""
    client = connect(server.url)
    await client.config_set("maxmemory", "0")
    await client.flushall()
    await client.execute_command("FUNCTION", "FLUSH")  # They remember how full it was.
    yield client
    await client.aclose()


@pytest.fixture
async def open_store(client: Redis) -> OpenStore:
    """Opens stores on the same server: `await open_store(shards=4, waiting_max=10)`."""

    async def open_one(shards: int = 1, **bounds: Any) -> EventStore:
        await migrate(client, shards)
        return EventStore(client, shards, Bounds(**bounds))

    return open_one


@pytest.fixture
async def store(open_store: OpenStore) -> EventStore:
    """A store with one shard and the usual bounds."""
    return await open_store()
