"""Forgetting that is killed, is waited for, or has jobs and archivers beside it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from consumers.claims import Claims
from core import functions
from core.appender import Record
from core.commands import Cancel
from core.errors import StoreUnavailable
from core.log import tag_of
from core.store import EventStore
from projections.archive.archiver import Archiver
from projections.archive.files import Directory
from projections.archive.reader import SegmentArchive
from projections.building import build
from projections.forgetting import facts, lease, views
from projections.forgetting.lease import archiving_held
from projections.replay.verify import verify
from tests.archive.logs import SEGMENTS, archiver_of, open_with, told
from tests.forgetting.secrets import (
    WORD,
    archive_all,
    ended_jobs,
    forget_tenant,
    is_in_redis,
    is_on_disk,
    saying,
)
from tests.given import a_job
from tests.projections.views import catch_up, lives
from tests.servers import RedisServer
from tests.store.killing import KilledInATask, Mortal


async def let_go(store: EventStore) -> None:
    """Have the lease of one that was killed run out."""
    for keys in store.shards:
        await store.client.hdel(keys.archived, "holder", "until_ms", "next", "next_until_ms")


async def test_killed_at_any_of_its_calls_it_is_finished_by_the_next_run(
    syncing: RedisServer,
    short: EventStore,
    emptied: Redis,
    tmp_path: Path,
    projector: asyncio.Task[None],
) -> None:
    jobs = await ended_jobs(short, "acme")
    await build(short)
    await archive_all(short)
    late = open_with(emptied, short.archive)
    jobs |= {f"late {how}": job for how, job in (await ended_jobs(late, "acme")).items()}
    before = await told(short)
    commands, is_killed = 0, True
    while is_killed:
        commands += 1
        mortal = Mortal(syncing.url, commands, KilledInATask)
        with suppress(KilledInATask):
            await forget_tenant(open_with(mortal.client, short.archive))
        others = asyncio.all_tasks() - {asyncio.current_task(), projector}
        await asyncio.gather(*others, return_exceptions=True)
        await mortal.bury()
        is_killed = mortal.is_dead
        after = await told(short)
        assert [one.id for one in after][: len(before)] == [one.id for one in before]
        stated = [one.subject for one in after[len(before) :]]
        assert len(set(stated)) == len(stated), "each fact once"
        await let_go(short)
    assert commands > 10
    assert (await forget_tenant(short)).is_whole
    await catch_up(short)
    assert not await is_in_redis(emptied)
    assert not is_on_disk(tmp_path / "archive")
    report, _ = await verify(short)
    assert report.findings == []


async def test_what_is_appended_while_the_log_is_copied_is_in_the_copy(
    long: EventStore, emptied: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.replay.reading.LOG_PAGE", 5)
    await ended_jobs(long, "acme")
    is_over = False

    async def go_on() -> int:
        times = 0
        while not is_over:
            times += 1
            await lives(long, 3, Random(times))
        return times

    going_on = asyncio.create_task(go_on())
    done = await forget_tenant(long)
    is_over = True
    assert await going_on > 1
    assert done.entries_in_log > 0
    await Claims(long, "worker-0", (), lambda: {"echo", "llama3.2:1b"}).take(10_000)
    await build(long)
    assert not await is_in_redis(emptied)
    report, _ = await verify(long)
    assert report.findings == []


async def test_an_archiver_that_works_lets_go_and_goes_on_afterwards(
    long: EventStore, emptied: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_PATIENCE_SECONDS", 5.0)
    await ended_jobs(long, "acme")
    await build(long)
    [keys] = long.shards
    assert isinstance(long.archive, SegmentArchive)
    archiver = Archiver(long, SegmentArchive(Directory(tmp_path / "archive")), "one", SEGMENTS)
    await archiver.work(keys, close=True)
    assert is_on_disk(tmp_path / "archive")
    forgetting = asyncio.create_task(forget_tenant(long))
    async with asyncio.timeout(5):
        while not await emptied.hexists(keys.archived, "next"):
            await asyncio.sleep(0.01)
    await archiver.work(keys, close=True)
    assert (await forgetting).is_whole
    assert not is_on_disk(tmp_path / "archive")
    await archiver.work(keys, close=True)
    assert await emptied.hget(keys.archived, "holder") == b"one"
    assert not is_on_disk(tmp_path / "archive")
    report, _ = await verify(long)
    assert report.findings == []


async def test_while_it_is_at_work_no_archiver_is_even_one_that_comes_anew(
    long: EventStore, tmp_path: Path
) -> None:
    await ended_jobs(long, "acme")
    await build(long)
    [keys] = long.shards
    async with archiving_held(long, keys, "forgetting", lambda _: None):
        await archiver_of(long, "another").work(keys, close=True)
        assert not (tmp_path / "archive").exists()
    await archiver_of(long, "another").work(keys, close=True)
    assert is_on_disk(tmp_path / "archive")


async def test_one_that_waits_says_for_whom_and_gives_up_in_the_end(
    long: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.02)
    [keys] = long.shards
    heard: list[str] = []
    async with archiving_held(long, keys, "first", heard.append):
        with pytest.raises(StoreUnavailable, match=r"first archives shard 0, and does not let go"):
            async with archiving_held(long, keys, "second", heard.append):
                pass
    assert heard == ["first"]


async def test_one_that_loses_its_lease_stops_before_it_writes_any_more(
    long: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.02)
    [keys] = long.shards

    async def lose_it() -> None:
        async with archiving_held(long, keys, "frozen", lambda _: None):
            await let_go(long)
            ask = {"holder": "another", "lease_ms": 60_000}
            await functions.call(long.client, "archive_lease", [keys.archived], ask)
            async with asyncio.timeout(5):
                await asyncio.Event().wait()

    with pytest.raises(StoreUnavailable, match=r"archiving shard 0 was lost.*Run it again"):
        await lose_it()


async def test_a_fact_whose_reply_is_lost_is_stated_once(
    short: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await a_job(short, tenant="acme", **saying(WORD))
    await short.execute(job, Cancel("somebody"))
    await build(short)
    await archive_all(short)
    assert await short.load(job) is None
    written: list[Record] = []
    write = short.write

    async def twice(shard: int, record: Record) -> tuple[str, ...]:
        written.append(record)
        first = await write(shard, record)
        assert await write(shard, record) == first
        return first

    monkeypatch.setattr(short, "write", twice)
    await forget_tenant(short)
    assert [record.revives for record in written] == [False, True]
    entries = [one for one in await told(short) if one.subject == job]
    assert [tag_of(one.event) for one in entries] == ["submitted", "cancelled", "redacted"]
    head = await short.require(job)
    assert 0 < await short.client.pttl(short.shards[0].head(job)) <= facts._REVIVED_MS
    assert head.log_ids == tuple(one.id for one in entries)


async def test_without_a_projector_it_says_that_the_views_still_have_it(
    long: EventStore, projector: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await build(long)
    projector.cancel()
    monkeypatch.setattr(views, "_PATIENCE_SECONDS", 0.2)
    job = await a_job(long, tenant="acme", **saying(WORD))
    await long.execute(job, Cancel("somebody"))
    done = await forget_tenant(long)
    [left] = done.left
    assert left.startswith("the views of shard 0 have metadata")
    await catch_up(long)
    assert (await forget_tenant(long)).is_whole


async def the_copy_gone(store: EventStore) -> None:
    await store.client.unlink(store.shards[0].copy)


async def an_entry_deleted(store: EventStore) -> None:
    ids = await log_ids(store)
    await store.client.xdel(store.shards[0].log, ids[1])


async def the_log_trimmed(store: EventStore) -> None:
    ids = await log_ids(store)
    await store.client.xtrim(store.shards[0].log, minid=ids[3], approximate=False)


async def log_ids(store: EventStore) -> list[bytes]:
    entries: Any = await store.client.execute_command("XRANGE", store.shards[0].log, "-", "+")
    return [entry_id for entry_id, _ in entries]


@pytest.mark.parametrize(
    ("meddle", "before"),
    [
        (the_copy_gone, ("forget_copy", 2)),
        (an_entry_deleted, ("forget_swap", 1)),
        (the_log_trimmed, ("forget_swap", 1)),
    ],
)
async def test_what_somebody_does_meanwhile_to_log_or_copy_is_not_undone(
    long: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    meddle: Callable[[EventStore], Awaitable[None]],
    before: tuple[str, int],
) -> None:
    monkeypatch.setattr("projections.replay.reading.LOG_PAGE", 5)
    await ended_jobs(long, "acme")
    called: list[str] = []
    left: list[bytes] = []
    call = functions.call

    async def meddling(client: Redis, name: str, *rest: Any) -> Any:
        called.append(name)
        if name == before[0] and called.count(name) == before[1]:
            await meddle(long)
            left.extend(await log_ids(long))
        return await call(client, name, *rest)

    monkeypatch.setattr(functions, "call", meddling)
    done = await forget_tenant(long)
    assert done.entries_in_log > 0
    assert await log_ids(long) == left
