"""Servers of a test's own, with a disk that can lose power, and stores on them as the roles open them."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest

from cli.opening import open_store
from core.durability import Durability
from core.redis import connect
from core.settings import Settings
from core.store import EventStore
from migrations.runner import migrate
from tests.durability.power import Powered, compiled_ledger

OpenStore = Callable[..., Coroutine[Any, Any, EventStore]]
Power = Callable[..., Powered]

QUEUE_LIMIT = 100_000


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_ledger(tmp_path_factory.mktemp("ledger"))


@pytest.fixture(params=["valkey", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each server that the product supports."""
    return str(request.param)


@pytest.fixture
def power(tmp_path: Path, ledger: Path) -> Iterator[Power]:
    """Starts servers that do not outlive the test: `power("redis", "always", delay_ms=5)`."""
    with ExitStack() as stack:

        def start(kind: str, appendfsync: str, delay_ms: int = 0) -> Powered:
            powered = Powered(kind, tmp_path, ledger, appendfsync, delay_ms)
            powered.server.start()
            stack.callback(powered.server.stop)
            return powered

        yield start


@pytest.fixture
async def opened() -> AsyncIterator[OpenStore]:
    """Opens stores as the roles do: `await opened(url, Durability.ALWAYS, patience_seconds=2)`."""
    async with AsyncExitStack() as stack:

        async def open_one(
            url: str,
            durability: Durability,
            patience_seconds: float = 10.0,
            *,
            confirm_in_background: bool = False,
        ) -> EventStore:
            client = connect(url)
            await migrate(client)
            await client.aclose()
            settings = Settings(durability=durability, queue_limit=QUEUE_LIMIT)
            opening = open_store(
                settings, url, patience_seconds, confirm_in_background=confirm_in_background
            )
            return await stack.enter_async_context(opening)

        yield open_one
