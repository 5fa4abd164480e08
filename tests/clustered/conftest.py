"""A cluster in the place of the server, and stores whose shards are on all of its nodes."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from core.nodes import primaries
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from tests.clustered.nodes import Cluster
from tests.conftest import OpenStore

SHARDS = 4  # The smallest number of which each third of all slots has one.


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster that lasts for all tests."""
    if request.param == "redis" and "CLUSTER" not in os.environ:
        pytest.skip("on a cluster of Redis, too, it takes a minute more: make cluster")
    cluster = Cluster(request.param, tmp_path_factory.mktemp(request.param))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
async def client(server: Cluster) -> AsyncIterator[Redis]:
    """A client of the cluster, which holds nothing."""
    client = connect(server.url)
    for node in await primaries(client):
        await node.config_set("maxmemory", "0")
        await node.flushall()
        await node.execute_command("FUNCTION", "FLUSH")
    yield client
    await client.aclose()


@pytest.fixture
async def open_store(client: Redis) -> OpenStore:
    """As everywhere; with shards on all nodes, if the test does not say how many."""

    async def open_one(shards: int = 1, **bounds: object) -> EventStore:
        await migrate(client, shards)
        return EventStore(client, shards, Bounds(**bounds))  # type: ignore[arg-type]

    return open_one
