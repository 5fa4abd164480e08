"""Connections that are reset, on both event loops: the one of the tests, and the one of every role."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from core.errors import StoreUnavailable
from core.redis import answering, connect
from tests.proxy import Proxy, proxy_to
from tests.servers import RedisServer, running, valkey

NEW_LOOP = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
CONNECTIONS = 8
SOON_SECONDS = 10

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=NEW_LOOP)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the event loops."""

    def run(test: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=NEW_LOOP[request.param]) as runner:
            return runner.run(test)

    return run


@asynccontextmanager
async def a_client(server: RedisServer) -> AsyncIterator[tuple[Redis, Proxy]]:
    """A client, and the proxy that it is behind."""
    async with proxy_to(server.port) as proxy:
        client = connect(proxy.url)
        try:
            yield client, proxy
        finally:
            await client.aclose()


async def reset(connections: list[Any], proxy: Proxy) -> None:
    """Reset connections, and wait until their transports have noticed."""
    transports = [connection._writer.transport for connection in connections]
    while proxy.connections < len(connections):  # A connection is there before the proxy knows it.
        await asyncio.sleep(0.01)
    proxy.cut()
    async with asyncio.timeout(SOON_SECONDS):
        while not all(transport.is_closing() for transport in transports):
            await asyncio.sleep(0)
    await asyncio.sleep(0)  # uvloop lets go of the socket one turn later.


def test_connections_that_were_reset_while_nobody_used_them_trouble_nobody(
    server: RedisServer, run: Run
) -> None:
    async def ask_after_a_reset() -> list[Any]:
        async with a_client(server) as (client, proxy):
            await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS)))
            idle = list(client.connection_pool._available_connections)
            assert len(idle) == CONNECTIONS
            await reset(idle, proxy)
            asking = (client.ping() for _ in range(CONNECTIONS))
            return await asyncio.gather(*asking, return_exceptions=True)

    assert run(ask_after_a_reset()) == [True] * CONNECTIONS


def test_writing_to_a_connection_that_was_reset_says_that_redis_does_not_answer(
    server: RedisServer, run: Run
) -> None:
    async def write_after_a_reset() -> None:
        async with a_client(server) as (client, proxy):
            connection = await client.connection_pool.get_connection()
            await connection.send_command("PING")
            await connection.read_response()  # It is through the proxy by now.
            await reset([connection], proxy)
            try:
                async with answering():
                    await connection.send_command("PING")
            finally:
                await client.connection_pool.release(connection)

    with pytest.raises(StoreUnavailable, match="Redis does not answer"):
        run(write_after_a_reset())


async def test_a_store_is_reached_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with running(valkey(tmp_path, "--unixsocket", str(path))):
        client = connect(f"unix://{path}?db=1")
        async with answering():
            assert await client.ping()
        await client.aclose()
