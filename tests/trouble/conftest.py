"""A site: a Redis of its own, an API in front of it, and a proxy between them that makes trouble."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.app import PATIENCE_SECONDS
from core.redis import connect
from core.store import Bounds, EventStore
from migrations.runner import migrate
from tests.api.conftest import Api, serving_api
from tests.proxy import Proxy, proxy_to
from tests.servers import RedisServer, running, valkey


class Site:
    """What the tests make trouble for. `store` is the way to Redis that has none."""

    def __init__(
        self, server: RedisServer, proxy: Proxy, api: Api, store: EventStore, folder: Path
    ) -> None:
        self.server = server
        self.proxy = proxy
        self.api = api
        self.store = store
        self.folder = folder

    @property
    def client(self) -> Any:
        """Redis itself."""
        return self.store.client


@asynccontextmanager
async def a_site(folder: Path, *options: str) -> AsyncIterator[Site]:
    """A site whose Redis has its data in `folder`."""
    bounds = Bounds(patience_seconds=PATIENCE_SECONDS)
    with running(valkey(folder, *options)) as server:
        client = connect(server.url)
        await migrate(client)
        async with proxy_to(server.port) as proxy:
            behind = connect(proxy.url)
            async with serving_api(EventStore(behind, 1, bounds)) as api:
                yield Site(server, proxy, api, EventStore(client, 1, Bounds()), folder)
            await behind.aclose()
        await client.aclose()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose Redis has its log on disk."""
    async with a_site(tmp_path, "--appendonly", "yes") as site:
        yield site
