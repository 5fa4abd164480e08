"""A store on a server that syncs each write, and an archive beside it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from projections.archive import archiver
from projections.archive.files import Directory
from projections.archive.reader import SegmentArchive
from tests.archive.logs import SHORT, open_with
from tests.servers import RedisServer, running, valkey


@pytest.fixture(scope="package")
def syncing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("syncing")
    with running(valkey(folder, "--appendonly", "yes", "--appendfsync", "always")) as server:
        yield server


@pytest.fixture
async def emptied(syncing: RedisServer) -> AsyncIterator[Redis]:
    client = connect(syncing.url)
    await client.flushall()
    await migrate(client)
    yield client
    await client.aclose()


@pytest.fixture
def archive(tmp_path: Path) -> SegmentArchive:
    return SegmentArchive(Directory(tmp_path / "archive"))


@pytest.fixture
def kept(emptied: Redis, archive: SegmentArchive, monkeypatch: pytest.MonkeyPatch) -> EventStore:
    """A store whose ended jobs are kept for no time at all."""
    monkeypatch.setattr(archiver, "SPARE_MS", 0)
    return open_with(emptied, archive, SHORT)
