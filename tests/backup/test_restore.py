"""What a restore refuses, what it leaves behind when it fails, and what it does to an archive."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cli.backup import loading
from cli.backup.backup import back_up
from cli.backup.loading import load
from cli.backup.primary import Primary
from cli.backup.shelf import BackupError, backups
from core.errors import StoreError, StoreNotReady, StoreUnavailable
from core.keys import META
from core.redis import connect
from core.settings import Settings, read_settings
from core.store import EventStore
from migrations.runner import migrate
from projections.archive.files import Directory
from projections.archive.finding import find
from projections.archive.reader import SegmentArchive
from projections.building import build
from projections.replay.verify import verify
from tests.archive.logs import archiver_of, open_with, some_jobs, told
from tests.backup.servers import appending
from tests.given import a_job
from tests.servers import RedisServer, running

SYNCING = ("--appendfsync", "always")  # What is written may be archived at once.


def nobody(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("restoring")
    with (
        running(appending("valkey", folder / "from", *SYNCING)) as source,
        running(appending("valkey", folder / "to", *SYNCING)) as target,
    ):
        yield source, target


@pytest.fixture
async def source(servers: tuple[RedisServer, RedisServer]) -> AsyncIterator[Redis]:
    client = connect(servers[0].url)
    await client.flushall()
    await migrate(client)
    yield client
    await client.aclose()


@pytest.fixture
async def target(servers: tuple[RedisServer, RedisServer]) -> AsyncIterator[Redis]:
    client = connect(servers[1].url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def a_dump(source: Redis, servers: tuple[RedisServer, RedisServer], tmp_path: Path) -> Path:
    made = await back_up(_settings(servers[0], tmp_path), keep=1)
    return Path(made.path)


def _settings(server: RedisServer, folder: Path, **more: str) -> Settings:
    return read_settings({"REDIS_URL": server.url, "BACKUP_DIR": str(folder / "backups"), **more})


async def is_untouched(client: Redis) -> bool:
    info = await client.info()
    return info["role"] == "master" and not await client.info("keyspace")


async def test_a_redis_that_is_not_empty_is_left_as_it_is(target: Redis, a_dump: Path) -> None:
    await target.set("somebody's", "data")
    with pytest.raises(StoreNotReady, match=r"not empty \(db0: 1 keys\)"):
        await load(target, a_dump, None, nobody)
    assert await target.get("somebody's") == b"data"


async def test_what_was_written_after_the_first_look_is_not_overwritten_either(
    target: Redis, a_dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    our_address = loading._our_address

    async def meanwhile(client: Redis) -> str:
        await client.set("somebody's", "data")
        return await our_address(client)

    monkeypatch.setattr(loading, "_our_address", meanwhile)
    with pytest.raises(StoreNotReady, match="not empty"):
        await load(target, a_dump, None, nobody)
    assert await target.get("somebody's") == b"data"
    assert (await target.info("replication"))["role"] == "master"


async def test_a_redis_that_does_not_append_is_told_to(target: Redis, a_dump: Path) -> None:
    await target.config_set("appendonly", "no")
    try:
        with pytest.raises(StoreNotReady, match="CONFIG SET appendonly yes"):
            await load(target, a_dump, None, nobody)
    finally:
        await target.config_set("appendonly", "yes")


async def test_a_dump_of_a_newer_server_is_named_before_anything_is_done(
    target: Redis, tmp_path: Path
) -> None:
    dump = tmp_path / "newer.rdb"
    for head, says in (
        (b"VALKEY999", "version 999"),
        (b"REDIS0012", "reads up to 11"),
        (b"x", "no dump"),
    ):
        dump.write_bytes(head)
        with pytest.raises(StoreNotReady, match=says):
            await load(target, dump, None, nobody)
    assert await is_untouched(target)


async def test_a_dump_of_something_else_leaves_redis_empty(
    servers: tuple[RedisServer, RedisServer], source: Redis, target: Redis, a_dump: Path
) -> None:
    await source.flushall()
    await source.set("other", "data")
    with a_dump.open("wb") as file:
        from cli.backup.transfer import receive  # noqa: PLC0415

        await receive(source, file.write, nobody)
    with pytest.raises(StoreNotReady, match="no store of Respool"):
        await load(target, a_dump, None, nobody)
    assert await is_untouched(target)
    assert not await target.execute_command("FUNCTION", "LIST")


async def test_a_redis_that_cannot_reach_us_is_told_where_we_were(
    target: Redis, a_dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_COMING_SECONDS", 0.05)
    monkeypatch.setattr(Primary, "_is_secret", lambda *_: False)  # As if it never came.
    with pytest.raises(StoreUnavailable, match="--listen names another address"):
        await load(target, a_dump, None, nobody)
    assert await is_untouched(target)
    with pytest.raises(BackupError, match="no address of this machine"):
        await load(target, a_dump, "192.0.2.1", nobody)


async def test_nobody_gets_the_dump_without_the_secret() -> None:
    async with Primary.listening("127.0.0.1") as primary:
        reader, writer = await asyncio.open_connection(primary.host, primary.port)
        writer.write(
            b"*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$1\r\nx\r\n*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"
        )
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"-NOAUTH")
            assert (await reader.readline()).startswith(b"-NOAUTH")
        with pytest.raises(StoreUnavailable):
            await primary.until_asked(0)
        writer.close()


async def test_the_password_that_redis_had_for_its_primary_is_what_it_was(
    target: Redis, a_dump: Path
) -> None:
    await target.config_set("masterauth", "theirs")
    try:
        restored = await load(target, a_dump, None, nobody)
        assert (await target.config_get("masterauth"))["masterauth"] == "theirs"
        assert await target.hget(META, "incarnation") == restored.incarnation.encode()
    finally:
        await target.config_set("masterauth", "")


async def test_a_backup_of_an_empty_redis_is_not_made(
    servers: tuple[RedisServer, RedisServer], target: Redis, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="nothing to back up"):
        await back_up(_settings(servers[1], tmp_path), keep=1)
    assert backups(tmp_path / "backups") == []


async def test_what_was_archived_before_the_backup_is_the_store_s_and_what_came_after_is_not(
    servers: tuple[RedisServer, RedisServer],
    source: Redis,
    target: Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("projections.archive.archiver.SPARE_MS", 0)
    files = Directory(tmp_path / "archive")
    store = open_with(source, SegmentArchive(files))
    before = await _archived(store)
    made = await back_up(_settings(servers[0], tmp_path), keep=1)
    known = await told(store)
    after = await _archived(store)

    await load(target, Path(made.path), None, nobody)
    again = open_with(target, SegmentArchive(files))
    report, _ = await verify(again)
    assert report.findings == []
    assert await told(again) == known
    assert await find(again, before[1]) is not None
    assert await find(again, after[1]) is None
    later = await _archived(again)
    assert await find(again, later[1]) is not None
    assert await told(again) == [*known, *(await told(again))[len(known) :]]
    report, _ = await verify(again)
    assert report.findings == []


async def _archived(store: EventStore) -> list[str]:
    """Jobs that ended and whose events are in the archive alone; the first still waits."""
    ids = await some_jobs(store, 5)
    await build(store)
    await archiver_of(store).work(store.shards[0], close=True)
    await a_job(store)
    return ids
