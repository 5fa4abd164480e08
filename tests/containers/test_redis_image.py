"""The store on a Redis in a container, as most deployments have it."""

from collections.abc import Iterator

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from core.commands import Cancel
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from tests.given import a_job
from tests.store.audit import audit

IMAGE = "redis:7-alpine"
PORT = 6379


@pytest.fixture(scope="module")
def redis_url(engine: None) -> Iterator[str]:
    """A Redis in a container."""
    container = (
        DockerContainer(IMAGE)
        .with_exposed_ports(PORT)
        .waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
    )
    with container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}/0"


async def test_a_store_in_a_container_keeps_the_invariants(redis_url: str) -> None:
    client = connect(redis_url)
    await migrate(client, shards=2)
    store = EventStore(client, 2, Bounds())
    jobs = [await a_job(store, shard=n % 2) for n in range(10)]
    await store.execute(jobs[0], Cancel("me"))
    assert len(await audit(store)) == 10
    await client.aclose()
