"""A site: a Redis of its own, an API in front of it, and a proxy between them that makes trouble."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import PATIENCE_SECONDS
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from tests.api.conftest import CHAT, Api, serving_api
from tests.api.errors import error_of
from tests.proxy import Proxy, proxy_to
from tests.servers import RedisServer, running, valkey

ANSWER_SECONDS_MAX = 12.0


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


async def every_call(site: Site, job_id: str) -> list[httpx.Response]:
    """Everything that a client may ask, at the same time, and answered soon."""
    http, path = site.api.http, f"/v1/jobs/{job_id}"
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        return await asyncio.gather(
            http.post("/v1/jobs", json={"model": "echo", "request": CHAT}),
            http.post("/v1/chat/completions", json={"model": "echo", **CHAT}),
            http.get(path),
            http.get(path, params={"wait": 30}),
            http.get(f"{path}/result"),
            http.get(f"{path}/events"),
            http.get(f"{path}/events", headers={"Accept": "text/event-stream"}),
            http.get(f"{path}/output"),
            http.post(f"{path}/cancel"),
            http.post("/v1/queues/default/pause"),
        )


def is_away(answer: httpx.Response) -> None:
    """Assert that an answer says to come again."""
    error_of(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"


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
    async with a_site(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as site:
        yield site
