"""This suite runs on every server that the product supports."""

from collections.abc import Iterator

import pytest

from tests.servers import SERVERS, RedisServer, running


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A server that lasts for all tests of this suite."""
    with running(SERVERS[request.param](tmp_path_factory.mktemp(request.param))) as server:
        yield server
