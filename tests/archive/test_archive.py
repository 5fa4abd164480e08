"""What was archived is told as the log had it; what was altered is named; nothing is trimmed too early."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from core import functions
from core.archive import ArchiveError
from core.errors import StoreNotReady
from core.states import Cancelled
from core.store import EventStore
from projections.archive.archiver import Archiver, Forked
from projections.archive.files import Directory
from projections.archive.filling import archived
from projections.archive.finding import find
from projections.archive.reader import SegmentArchive
from projections.building import build, clock_ms
from projections.past.sequence import Past
from projections.replay.verify import verify
from tests.archive.logs import (
    an_archived_log,
    archiver_of,
    numbers_in_log,
    open_with,
    some_jobs,
    told,
)
from tests.given import CHAT, new_id


def segments_in(folder: Path) -> list[Path]:
    return sorted((folder / "archive").rglob("*.segment"))


async def test_archive_and_log_are_told_as_one_sequence(
    kept: EventStore, emptied: Redis, tmp_path: Path
) -> None:
    ids = await some_jobs(kept)
    before = await told(kept)
    await build(kept)
    await archiver_of(kept).work(kept.shards[0], close=True)
    assert await numbers_in_log(emptied, kept.shards[0]) == [21]
    assert len(segments_in(tmp_path)) == 3
    assert await told(kept) == before
    history = await kept.history(ids[0])
    assert [entry.sequence for entry in history] == [1]
    assert history == before[:1]


async def test_an_open_job_finds_its_request_though_the_log_was_trimmed_of_it(
    kept: EventStore,
) -> None:
    [waiting, *_] = await an_archived_log(kept)
    view = await kept.view(waiting)
    assert view is not None
    assert view.submitted is not None
    assert view.submitted.request


async def test_a_job_whose_head_has_expired_is_found_in_the_archive(kept: EventStore) -> None:
    [waiting, *ended] = await an_archived_log(kept, 3)
    for job in ended:
        assert await kept.view(job) is None
        view = await find(kept, job)
        assert view is not None
        assert isinstance(view.head.job, Cancelled)
        assert view.submitted is not None
        assert view.submitted.request == CHAT
    assert await find(kept, waiting) is None
    assert await find(kept, new_id()) is None


async def test_a_trimmed_store_is_verified_and_its_views_are_folded_anew_with_the_archive(
    kept: EventStore,
) -> None:
    await an_archived_log(kept)
    await build(kept)
    report, _ = await verify(kept)
    assert report.findings == []
    assert report.entries == 21


async def test_without_its_archive_a_trimmed_log_says_what_is_missing_and_where_to_name_it(
    kept: EventStore, emptied: Redis
) -> None:
    await an_archived_log(kept)
    without = open_with(emptied, None)
    with pytest.raises(ArchiveError, match=r"number 1 to 20.*ARCHIVE_URL"):
        await verify(without)
    past = Past(without, await clock_ms(without) + 1_000)
    assert [entry.sequence async for page in past.pages() for entry in page] == [21]
    assert "ARCHIVE_URL" in past.notes[0]


@pytest.mark.parametrize("harm", ["torn", "altered", "swapped", "gone"])
async def test_a_segment_that_is_not_what_was_written_is_named(
    kept: EventStore, emptied: Redis, tmp_path: Path, harm: str
) -> None:
    await an_archived_log(kept)
    first, second, _ = segments_in(tmp_path)
    body = second.read_bytes()
    match harm:
        case "torn":
            second.write_bytes(body[:-1])
        case "altered":
            second.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        case "swapped":
            second.write_bytes(first.read_bytes())
        case "gone":
            second.unlink()
    store = open_with(emptied, SegmentArchive(Directory(tmp_path / "archive")))
    with pytest.raises(ArchiveError) as raised:
        await verify(store)
    assert (second.name if harm != "gone" else "number 8 to 14") in str(raised.value)
    past = Past(store, await clock_ms(store) + 1_000)
    numbers = [entry.sequence async for page in past.pages() for entry in page]
    assert numbers == [*range(1, 8), *range(15, 22)]
    assert past.notes[0] == str(raised.value)


async def test_redis_trims_nothing_that_it_was_not_told_to_be_archived(
    kept: EventStore, emptied: Redis
) -> None:
    await some_jobs(kept)
    [last, *_] = await emptied.execute_command("XREVRANGE", kept.shards[0].log, "+", "-")
    keys = kept.shards[0]
    ask = {"prefix": keys.prefix, "before": last[0].decode(), "count": 100}
    reply = await functions.call(emptied, "archive_trim", [keys.log, keys.archived], ask)
    assert reply == [b"refused", b"0-0"]
    assert len(await numbers_in_log(emptied, keys)) == 21


async def test_what_a_view_has_not_folded_yet_stays_in_the_log(
    kept: EventStore, emptied: Redis
) -> None:
    await some_jobs(kept, 1)
    await build(kept)
    await some_jobs(kept)
    await archiver_of(kept).work(kept.shards[0], close=True)
    assert (await archived(kept, kept.shards[0])).sequence == 24
    assert await numbers_in_log(emptied, kept.shards[0]) == [*range(3, 25)]


async def test_one_archiver_works_and_the_other_changes_nothing(kept: EventStore) -> None:
    await some_jobs(kept)
    await archiver_of(kept, "one").work(kept.shards[0])
    assert (await archived(kept, kept.shards[0])).sequence == 21
    await some_jobs(kept)
    await archiver_of(kept, "two").work(kept.shards[0], close=True)
    assert (await archived(kept, kept.shards[0])).sequence == 21


async def test_who_was_frozen_for_longer_than_its_lease_changes_nothing(
    kept: EventStore, emptied: Redis
) -> None:
    await some_jobs(kept)
    keys = kept.shards[0]
    frozen = {"holder": "frozen", "lease_ms": 0}
    _, fence, *_ = await functions.call(emptied, "archive_lease", [keys.archived], frozen)
    await archiver_of(kept, "next")._lease(keys)
    [last, *_] = await emptied.execute_command("XREVRANGE", keys.log, "+", "-", "COUNT", 1)
    late = {"fence": fence, "after": 0, "sequence": 21, "entry": last[0].decode()}
    reply = await functions.call(emptied, "archive_commit", [keys.archived, keys.log], late)
    assert reply == b"moved"
    assert (await archived(kept, keys)).sequence == 0


async def test_a_log_that_lost_what_was_archived_is_not_archived_on(
    kept: EventStore, emptied: Redis
) -> None:
    await some_jobs(kept)
    await archiver_of(kept).work(kept.shards[0], close=True)
    await emptied.execute_command("DEL", kept.shards[0].log)
    await emptied.execute_command("SET", kept.shards[0].sequence, 0)
    await some_jobs(kept, 2)
    with pytest.raises(Forked, match="lost its end"):
        await archiver_of(kept).work(kept.shards[0], close=True)


async def test_nothing_is_archived_of_a_redis_that_writes_nothing_to_disk(
    store: EventStore, archive: SegmentArchive
) -> None:
    with pytest.raises(StoreNotReady, match="appendonly"):
        await Archiver(store, archive, "one").work(store.shards[0], close=True)
