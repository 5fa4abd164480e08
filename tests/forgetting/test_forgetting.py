"""What people wrote is nowhere any more, what happened is as it was, and nobody else's job is touched."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.commands import Cancel, Requeue
from core.errors import StoreFull
from core.job import CommandRefused
from core.log import LogEntry, tag_of
from core.redaction import is_gone
from core.store import EventStore
from projections.archive.finding import find, find_story
from projections.archive.reader import SegmentArchive
from projections.building import build
from projections.forgetting.forget import forget
from projections.forgetting.selection import Who
from projections.replay.verify import verify
from tests.archive.logs import numbers_in_log, open_with, told
from tests.forgetting.secrets import (
    BY,
    PLAIN,
    WORD,
    archive_all,
    ended_jobs,
    forget_tenant,
    is_in_redis,
    is_on_disk,
    saying,
)
from tests.given import a_job
from tests.projections.views import catch_up, check_views
from tests.servers import RedisServer


async def findings(store: EventStore) -> list[str]:
    report, _ = await verify(store)
    return [str(one) for one in report.findings]


def outline(entries: list[LogEntry]) -> list[tuple[str, int, str, int, str, str]]:
    """What happened when, without what was written."""
    return [
        (one.id, one.sequence, one.subject, one.version, one.operation, tag_of(one.event))
        for one in entries
    ]


async def test_nothing_of_a_tenant_is_left_in_redis_and_what_happened_stays(
    long: EventStore, emptied: Redis
) -> None:
    jobs = await ended_jobs(long, "acme")
    others = await ended_jobs(long, "other", PLAIN)
    await build(long)
    before = await told(long)
    assert await is_in_redis(emptied)
    done = await forget_tenant(long)
    assert (done.jobs, done.before, done.is_whole) == (len(jobs), 0, True)
    await catch_up(long)
    assert not await is_in_redis(emptied)
    assert await is_in_redis(emptied, PLAIN)
    after = await told(long)
    assert outline(after)[: len(before)] == outline(before)
    facts = after[len(before) :]
    assert {one.subject for one in facts} == set(jobs.values())
    assert {(tag_of(one.event), one.event.by, one.event.reason) for one in facts} == {  # type: ignore[union-attr]
        ("redacted", "operator", "ticket 7")
    }
    assert [one for one in after if one.subject in others.values()] == [
        one for one in before if one.subject in others.values()
    ]
    await check_views(long)
    assert await findings(long) == []


async def test_nothing_is_left_in_the_archive_of_jobs_that_redis_has_no_more(
    short: EventStore, emptied: Redis, tmp_path: Path
) -> None:
    jobs = await ended_jobs(short, "acme")
    others = await ended_jobs(short, "other", PLAIN)
    await build(short)
    await archive_all(short)
    before = await told(short)
    assert len(await numbers_in_log(emptied, short.shards[0])) == 1
    assert await short.view(jobs["completed"]) is None
    assert is_on_disk(tmp_path / "archive")
    done = await forget_tenant(short)
    assert (done.jobs, done.entries_in_log, done.is_whole) == (len(jobs), 0, True)
    assert done.segments > 0
    assert not is_on_disk(tmp_path / "archive")
    assert is_on_disk(tmp_path / "archive", PLAIN)
    after = await told(short)
    assert outline(after)[: len(before)] == outline(before)
    assert {one.subject for one in after[len(before) :]} == set(jobs.values())
    assert [one for one in after if one.subject in others.values()] == [
        one for one in before if one.subject in others.values()
    ]
    await catch_up(short)
    assert await findings(short) == [], "the views among what was compared"
    await build(short)
    assert await findings(short) == []


async def test_what_was_carried_over_from_a_trimmed_log_is_taken_out(
    long: EventStore, emptied: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = await a_job(long, tenant="acme", **saying(WORD))
    trimming = open_with(emptied, long.archive)  # It takes what is older than a moment for old.
    monkeypatch.setattr("projections.archive.archiver.SPARE_MS", 0)
    await a_job(long, tenant="other")
    await build(long)
    await archive_all(trimming)
    [keys] = long.shards
    assert await emptied.exists(keys.carried(job))
    await long.execute(job, Cancel("somebody", WORD))
    await forget_tenant(long)
    await catch_up(long)
    assert not await is_in_redis(emptied)
    assert not is_on_disk(tmp_path / "archive")
    view = await long.view(job)
    assert view is not None
    assert view.submitted is not None
    assert is_gone(view.submitted.request)
    assert await findings(long) == []


async def test_a_forgotten_job_says_so_and_cannot_live_again(long: EventStore) -> None:
    jobs = await ended_jobs(long, "acme")
    await forget_tenant(long)
    for how in ("failed", "cancelled", "expired"):
        with pytest.raises(CommandRefused, match="its request was forgotten"):
            await long.execute(jobs[how], Requeue("somebody"))
    view = await long.view(jobs["completed"])
    assert view is not None
    assert view.is_forgotten
    assert tag_of(view.last) == "completed"  # type: ignore[arg-type]
    assert view.last.usage.total_tokens == 7  # type: ignore[union-attr]


async def test_a_forgotten_job_of_the_archive_says_so_too(short: EventStore) -> None:
    jobs = await ended_jobs(short, "acme")
    await build(short)
    await archive_all(short)
    await forget_tenant(short)
    view = await find(short, jobs["failed"])
    assert view is not None
    assert view.is_forgotten
    assert tag_of(view.last) == "failed"  # type: ignore[arg-type]
    _, entries = await find_story(short, jobs["completed"])
    assert [tag_of(one.event) for one in entries] == ["submitted", "claimed", "completed"]


async def test_jobs_are_forgotten_by_name(long: EventStore, emptied: Redis) -> None:
    jobs = await ended_jobs(long, "acme")
    kept = await a_job(long, tenant="acme", **saying(PLAIN))
    who = Who(jobs=frozenset(jobs.values()))
    assert (await forget(long, who, BY)).jobs == len(jobs)
    await build(long)
    assert not await is_in_redis(emptied)
    view = await long.view(kept)
    assert view is not None
    assert not view.is_forgotten


async def test_a_job_that_has_not_ended_is_left_and_named_until_it_has(
    long: EventStore, emptied: Redis
) -> None:
    job = await a_job(long, tenant="acme", **saying(WORD))
    done = await forget_tenant(long)
    assert (done.jobs, done.open, done.is_whole) == (0, [job], False)
    view = await long.view(job)
    assert view is not None
    assert view.submitted is not None
    assert view.submitted.request == saying(WORD)["request"]
    await long.execute(job, Cancel("somebody"))
    done = await forget_tenant(long)
    assert (done.jobs, done.open, done.is_whole) == (1, [], True)
    await build(long)
    assert not await is_in_redis(emptied)


async def test_again_it_finds_nothing_to_do_and_writes_nothing(long: EventStore) -> None:
    jobs = await ended_jobs(long, "acme")
    await forget_tenant(long)
    before = await told(long)
    done = await forget_tenant(long)
    assert (done.jobs, done.before) == (len(jobs), len(jobs))
    assert (done.entries_in_log, done.entries_in_archive, done.segments) == (0, 0, 0)
    assert await told(long) == before


async def test_without_room_for_a_copy_it_says_how_much_is_lacking_and_does_nothing(
    long: EventStore, emptied: Redis
) -> None:
    await ended_jobs(long, "acme")
    before = await told(long)
    info = await emptied.info("memory")
    await emptied.config_set("maxmemory", str(info["used_memory"] + 10_000))
    with pytest.raises(StoreFull, match=r"MiB more than there are.*CONFIG SET maxmemory"):
        await forget_tenant(long)
    await emptied.config_set("maxmemory", "0")
    assert await told(long) == before


async def test_a_damaged_segment_is_left_and_named_and_the_others_are_done(
    short: EventStore, tmp_path: Path
) -> None:
    await ended_jobs(short, "acme")
    await build(short)
    await archive_all(short)
    first, *_ = sorted((tmp_path / "archive").rglob("*.segment"))
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    done = await forget_tenant(short)
    assert any(str(first) in what for what in done.left)
    assert done.segments > 0
    first.write_bytes(whole)
    again = await forget_tenant(open_with(short.client, SegmentArchive(short.archive.files)))  # type: ignore[union-attr]
    assert again.is_whole
    assert not is_on_disk(tmp_path / "archive")


async def test_another_process_that_has_a_segment_in_memory_reads_it_anew(
    short: EventStore, emptied: Redis
) -> None:
    jobs = await ended_jobs(short, "acme")
    await build(short)
    await archive_all(short)
    assert isinstance(short.archive, SegmentArchive)
    other = open_with(emptied, SegmentArchive(short.archive.files))
    before = await find(other, jobs["completed"])
    assert before is not None
    assert not before.is_forgotten
    await forget_tenant(short)
    after = await find(other, jobs["completed"])
    assert after is not None
    assert after.is_forgotten


async def test_a_request_that_is_still_there_of_a_forgotten_job_is_a_difference(
    long: EventStore, syncing: RedisServer
) -> None:
    job = await a_job(long, tenant="acme", **saying(WORD))
    await long.execute(job, Cancel("somebody"))
    await long.execute(job, BY)
    await build(long)
    said = f"there, though entry {(await long.require(job)).log_ids[-1]} says otherwise"
    assert await findings(long) == [
        f"shard 0: log request of {job} is {said!r}; it should be 'forgotten' (run `respool forget` again)"
    ]
    await forget_tenant(long)
    assert await findings(long) == []


async def test_a_forgotten_job_is_kept_no_longer_than_it_would_have_been(
    long: EventStore, emptied: Redis
) -> None:
    job = await a_job(long, tenant="acme", **saying(WORD))
    await long.execute(job, Cancel("somebody"))
    head = long.shards[0].head(job)
    await emptied.pexpire(head, 60_000)
    await forget_tenant(long)
    assert 0 < await emptied.pttl(head) <= 60_000
