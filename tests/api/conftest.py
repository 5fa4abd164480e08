"""A served API on a real store, with a worker that runs what it is told, or with one that does not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from api.app import create_app
from api.desk import Desk
from cli.protocol import WireLimits
from cli.serving import bind, serving
from consumers.upstream.echo import EchoUpstream
from core.bells import Bells
from core.settings import Settings
from core.store import EventStore
from core.tail import TailWatch
from projections.projector import Projector
from tests.api.workers import Script, a_worker, working
from tests.servers import RedisServer

CHAT = {"messages": [{"role": "user", "content": "one two three"}]}


class Api:
    """An API that is served, and a client of it."""

    def __init__(
        self, store: EventStore, bells: Bells, desk: Desk, http: httpx.AsyncClient
    ) -> None:
        self.store = store
        self.bells = bells
        self.desk = desk
        self.http = http

    @property
    def tail(self) -> TailWatch:
        return self.desk.tail

    async def post(self, headers: dict[str, str] | None = None, /, **fields: Any) -> httpx.Response:
        """Submit a chat job for the echo model, but for `fields`."""
        body = {"model": "echo", "request": CHAT} | fields
        return await self.http.post("/v1/jobs", json=body, headers=headers)

    async def submit(self, **fields: Any) -> str:
        """Submit a job that is accepted; its id."""
        answer = await self.post(**fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def job(self, job_id: str, wait: float = 0) -> dict[str, Any]:
        """A job as it is, or once it has ended."""
        answer = await self.http.get(f"/v1/jobs/{job_id}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job


async def says_nothing() -> bytes:
    """What is at `/metrics` where nobody looks."""
    return b""


OpenApi = Callable[..., Coroutine[Any, Any, Api]]


@asynccontextmanager
async def serving_api(
    store: EventStore,
    is_ready: Callable[[], bool] = lambda: True,
    limits: WireLimits | None = None,
    **settings: Any,
) -> AsyncIterator[Api]:
    """An API over `store`, for as long as the block lasts."""
    bells = Bells(store.client)
    app = create_app(store, bells, Settings(**settings), is_ready, says_nothing)
    listening = bind("127.0.0.1", 0, "API_PORT")
    listening.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # As uvloop does by itself.
    desk: Desk = app.state.desk
    async with (
        serving(app, listening, limits) as url,
        # Plain HTTP: reading every certificate of the machine, once a test, took a seventh of the time.
        httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(20), verify=False) as http,
    ):
        try:
            yield Api(store, bells, desk, http)
        finally:
            bells.close()


@pytest.fixture
async def open_api(client: Redis) -> AsyncIterator[OpenApi]:
    """Serves APIs until the test ends: `await open_api(store, max_body_bytes=2_048)`.

    It asks for the client so that the APIs end before it: their background would connect anew.
    """
    async with AsyncExitStack() as stack:

        async def open_one(store: EventStore, **settings: Any) -> Api:
            return await stack.enter_async_context(serving_api(store, **settings))

        yield open_one


@pytest.fixture
async def api(store: EventStore, open_api: OpenApi) -> Api:
    """An API without any worker."""
    return await open_api(store)


@asynccontextmanager
async def projecting(store: EventStore) -> AsyncIterator[None]:
    """A projector, for as long as the block lasts."""
    running = asyncio.create_task(Projector(store).run())
    try:
        yield
        assert not running.done(), running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def projector(store: EventStore) -> AsyncIterator[None]:
    """What keeps the views up with the log."""
    async with projecting(store):
        yield


@pytest.fixture
async def idle_worker(store: EventStore) -> None:
    """A worker that is alive and claims nothing, so that jobs are taken and stay as they are."""
    await a_worker(store)


@pytest.fixture
async def echo_worker(store: EventStore, server: RedisServer) -> AsyncIterator[None]:
    """A worker whose model says what it was told."""
    async with working(store, server.url, EchoUpstream("echo://")):
        yield


@pytest.fixture
async def script(store: EventStore, server: RedisServer) -> AsyncIterator[Script]:
    """A worker whose model says what the test tells it to."""
    script = Script()
    async with working(store, server.url, script):
        yield script
