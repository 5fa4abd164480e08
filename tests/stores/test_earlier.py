"""Stores that earlier releases left behind, recorded when they were new, are used by this one.

A fixture is never made again: each release adds its own with `python -m tests.stores.living`.
"""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.keys import META
from core.queues import Queues
from core.records import Bounds
from core.roster import Roster
from core.states import STATUSES, Job, Lane, Queued, Running, status_of
from core.store import EventStore
from migrations.runner import migrate, shard_count
from tests.consumers.fleet import Scripted, a_worker, ended
from tests.projections.views import catch_up, check_views
from tests.servers import RedisServer
from tests.store.audit import audit
from tests.stores.recording import load, recorded, written

FOLDER = Path(__file__).parent
EARLIER = sorted(FOLDER.glob("library-*.jsonl"))
BYTES_MAX = 500_000  # A fixture is read by people, too.


@pytest.fixture(params=EARLIER, ids=lambda path: str(path.stem))
def recording(request: pytest.FixtureRequest) -> bytes:
    """A store as an earlier release left it."""
    text: bytes = request.param.read_bytes()
    assert len(text) < BYTES_MAX
    return text


@pytest.fixture
async def loaded(client: Redis, recording: bytes) -> Redis:
    """A connection to that store, loaded as it was."""
    await client.execute_command("FUNCTION", "FLUSH")
    await load(client, recording)
    return client


@pytest.fixture
async def earlier(loaded: Redis) -> EventStore:
    """That store, migrated to this release."""
    await migrate(loaded)
    return EventStore(loaded, await shard_count(loaded), Bounds())


def test_there_is_a_store_of_an_earlier_release() -> None:
    assert FOLDER / "library-2.jsonl" in EARLIER


async def test_what_is_loaded_is_what_was_recorded(loaded: Redis, recording: bytes) -> None:
    again = _lasting(written(await recorded(loaded)))
    told = _lasting(recording)
    is_aging = (b'["PEXPIRE"', b'["XCLAIM"')  # Time goes on.
    assert [one for one in again if not one.startswith(is_aging)] == [
        one for one in told if not one.startswith(is_aging)
    ]
    assert len(again) == len(told)


def _lasting(recording: bytes) -> list[bytes]:
    """All but the heartbeats, of which some had half a second left."""
    return [line for line in recording.splitlines() if b":alive:" not in line[:60]]


async def test_an_earlier_store_holds_everything_that_there_is(earlier: EventStore) -> None:
    jobs = [head.job for head in (await audit(earlier)).values()]
    assert {status_of(job) for job in jobs} == set(STATUSES)
    assert {job.lane for job in jobs if isinstance(job, Queued)} == set(Lane)
    assert any(job.cancel_by for job in jobs if isinstance(job, Running))
    assert {member.worker.status for member in await Roster(earlier).members()} >= {
        "started",
        "draining",
        "stopped",
        "lost",
    }
    paused = {name: (await Queues(earlier).state(name)).paused for name in ("batch", "nightly")}
    assert paused == {"batch": False, "nightly": True}


async def test_the_open_jobs_of_an_earlier_store_are_finished(
    server: RedisServer, earlier: EventStore
) -> None:
    before = await audit(earlier)
    upstream = Scripted()
    upstream.served = frozenset(head.job.model for head in before.values())
    shards = len(earlier.shards)
    await Queues(earlier).set_paused("nightly", paused=False, by="ops")
    async with a_worker(server, upstream, shards=shards, concurrency=8):
        after = {job: await ended(earlier, job) for job in before}
    open_before = [job for job, head in before.items() if status_of(head.job) in STATUSES[:3]]
    to_be_cancelled = [
        job
        for job, head in before.items()
        if isinstance(head.job, Running) and head.job.cancel_by is not None
    ]
    assert open_before
    for job in open_before:
        expected = {"cancelled"} if job in to_be_cancelled else {"completed", "expired"}
        assert status_of(after[job]) in expected
    await audit(earlier)


async def test_the_views_of_an_earlier_store_are_the_fold_of_its_log(
    server: RedisServer, earlier: EventStore
) -> None:
    """When it was migrated, and when a worker has worked on it since."""
    await check_views(earlier)
    upstream = Scripted()
    heads = await audit(earlier)
    waiting = [job for job, head in heads.items() if _waits(head.job)]
    upstream.served = frozenset(heads[job].job.model for job in waiting)
    async with a_worker(server, upstream, shards=len(earlier.shards), concurrency=8):
        for job in waiting:
            await ended(earlier, job)
    await catch_up(earlier, 100)
    await check_views(earlier)
    await audit(earlier)
    assert waiting


def _waits(job: Job) -> bool:
    return isinstance(job, Queued) and job.queue != "nightly"  # Which is paused.


async def test_an_earlier_store_says_what_it_is(earlier: EventStore) -> None:
    assert await earlier.client.hget(META, "incarnation")
    assert len(earlier.shards) == 2
