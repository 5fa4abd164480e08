"""This suite runs on every server that the product supports."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.consumers.workers import LEASE_SECONDS, SLOW, StartWorker
from tests.processes import Process, respool
from tests.servers import SERVERS, RedisServer, running


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A server that lasts for all tests of this suite."""
    with running(SERVERS[request.param](tmp_path_factory.mktemp(request.param))) as server:
        yield server


@pytest.fixture
def start_worker(server: RedisServer, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts worker processes that do not outlive the test."""
    with ExitStack() as stack:

        def start(upstream_url: str = SLOW, **environment: str) -> Process:
            settings = {
                "REDIS_URL": server.url,
                "UPSTREAM_URL": upstream_url,
                "LEASE_SECONDS": str(LEASE_SECONDS),
                "WORKER_PORT": "0",
            }
            log_path = tmp_path / "worker.log"
            return stack.enter_context(respool(log_path, "worker", **settings | environment))

        yield start
