"""A store on a server that syncs each write, an archive beside it, and jobs in which there is something to forget."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.errors import StoreNotReady
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from projections.archive import archiver
from projections.archive.files import Directory
from projections.archive.reader import SegmentArchive
from projections.checkpoint import Moved
from projections.generations import serving
from projections.runner import Runner
from tests.archive.logs import open_with
from tests.servers import SERVERS, RedisServer, running


@pytest.fixture(scope="package", params=["valkey", "redis"])
def syncing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("syncing")
    options = ("--appendonly", "yes", "--appendfsync", "always", "--rdbcompression", "no")
    with running(SERVERS[request.param](folder, *options)) as server:
        yield server


@pytest.fixture
async def emptied(syncing: RedisServer) -> AsyncIterator[Redis]:
    client = connect(syncing.url)
    await client.config_set("maxmemory", "0")
    await client.flushall()
    await migrate(client)
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
async def projector(emptied: Redis) -> AsyncIterator[asyncio.Task[None]]:
    """Folds what comes, as soon as there are views."""

    async def fold() -> None:
        store = EventStore(emptied, 1, Bounds())
        while True:
            with suppress(StoreNotReady, Moved):
                [view] = (await serving(store)).views(store)
                await Runner(store, view, batch_entries=7).advance()
            await asyncio.sleep(0.01)

    folding = asyncio.create_task(fold())
    yield folding
    folding.cancel()
    with suppress(asyncio.CancelledError):
        await folding


@pytest.fixture
def archive(tmp_path: Path) -> SegmentArchive:
    return SegmentArchive(Directory(tmp_path / "archive"))


@pytest.fixture
def long(emptied: Redis, archive: SegmentArchive) -> EventStore:
    """A store that keeps ended jobs for a day."""
    return open_with(emptied, archive, Bounds())


@pytest.fixture
def short(emptied: Redis, archive: SegmentArchive, monkeypatch: pytest.MonkeyPatch) -> EventStore:
    """A store that keeps ended jobs for no time at all."""
    monkeypatch.setattr(archiver, "SPARE_MS", 0)
    return open_with(emptied, archive)
