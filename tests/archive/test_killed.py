"""Archivers that are killed at each of their calls, to Redis and to the disk: nothing lost, nothing told twice."""

from contextlib import suppress
from pathlib import Path

from redis.asyncio import Redis

from core.store import EventStore
from migrations.runner import migrate
from projections.archive.files import Directory
from projections.archive.reader import SegmentArchive
from projections.building import build
from tests.archive.logs import archiver_of, numbers_in_log, open_with, some_jobs, told
from tests.servers import RedisServer
from tests.store.killing import Killed, Mortal


class MortalDirectory(Directory):
    """A directory whose writer is killed once it has put so many files: the last one is there, or is not."""

    def __init__(self, path: Path, files: int, *, is_written: bool) -> None:
        super().__init__(path)
        self._left = files
        self._is_written = is_written
        self.is_dead = False

    def put(self, name: str, body: bytes) -> None:
        self._left -= 1
        self.is_dead = self._left <= 0
        if not self.is_dead or self._is_written:
            super().put(name, body)
        if self.is_dead:
            raise Killed


async def a_log(client: Redis, folder: Path) -> EventStore:
    await client.flushall()
    await migrate(client)
    store = open_with(client, SegmentArchive(Directory(folder)))
    await some_jobs(store)
    await build(store)
    return store


async def test_one_that_is_killed_at_any_of_its_calls_leaves_each_event_told_once(
    syncing: RedisServer, kept: EventStore, emptied: Redis, tmp_path: Path
) -> None:
    commands, is_killed = 0, True
    while is_killed:
        commands += 1
        store = await a_log(emptied, tmp_path / str(commands))
        before = await told(store)
        mortal = Mortal(syncing.url, commands)
        with suppress(Killed):
            dying = open_with(mortal.client, store.archive)
            await archiver_of(dying, "dying").work(dying.shards[0], close=True)
        await mortal.bury()
        is_killed = mortal.is_dead
        assert await told(store) == before
        await emptied.hdel(store.shards[0].archived, "holder")  # As its lease ends, later.
        await archiver_of(store, "next").work(store.shards[0], close=True)
        assert await told(store) == before
        assert await numbers_in_log(emptied, store.shards[0]) == [21]
    assert commands > 20


async def test_one_that_is_killed_while_it_writes_leaves_each_event_told_once(
    kept: EventStore, emptied: Redis, tmp_path: Path
) -> None:
    for files, is_written in ((1, False), (1, True), (2, False), (2, True), (3, True)):
        folder = tmp_path / f"{files}{is_written}"
        store = await a_log(emptied, folder)
        before = await told(store)
        directory = MortalDirectory(folder, files, is_written=is_written)
        dying = open_with(emptied, SegmentArchive(directory))
        with suppress(Killed):
            await archiver_of(dying, "dying").work(dying.shards[0], close=True)
        assert directory.is_dead
        assert await told(store) == before
        await emptied.hdel(store.shards[0].archived, "holder")
        await archiver_of(store, "next").work(store.shards[0], close=True)
        assert await told(store) == before
        assert await numbers_in_log(emptied, store.shards[0]) == [21]
