"""What an older release's worker is given and cannot write goes to a newer one at once, and costs nothing."""

import asyncio
from typing import Any

import pytest

from consumers.claims import Claims
from consumers.leases import Interruption, Lease, Leases
from core.commands import Claim
from core.errors import FromTheFuture
from core.events import AttemptLost, LostBecause
from core.job import decide
from core.keys import HANDED_OVER, LaneName
from core.states import Lane, Queued, Running
from core.store import Claim as Proof
from core.store import EventStore
from tests.conftest import OpenStore
from tests.consumers.fleet import LEASE_SECONDS, Scripted, a_worker, ended, types_of
from tests.consumers.test_recovery import a_recovery, take
from tests.given import a_job
from tests.releases.newer import NEXT_SCHEMA, is_newer, next_workers
from tests.servers import RedisServer
from tests.store.audit import audit

LANE = LaneName(Lane.NORMAL, "default", "echo")


def claims(store: EventStore, worker: str) -> Claims:
    return Claims(store, worker, (), lambda: {"echo"})


async def holders(store: EventStore) -> dict[str, int]:
    """Who holds the pending entries, and for how long it has been silent, in milliseconds."""
    client: Any = store.client
    rows = await client.xpending_range(store.shards[0].ready(LANE), "workers", "-", "+", 100)
    return {row["consumer"].decode(): row["time_since_delivered"] for row in rows}


async def test_a_newer_job_takes_no_slot_of_an_older_worker(store: EventStore) -> None:
    newer, ours = [await a_job(store) for _ in range(2)]
    await is_newer(store, newer)
    assert [delivery.job_id for delivery in await claims(store, "old").take(1)] == [ours]
    assert set(await holders(store)) == {"old", HANDED_OVER}


@pytest.mark.parametrize("readable", [True, False])
async def test_a_newer_worker_claims_it_next_and_the_job_knows_nothing_of_it(
    store: EventStore, readable: bool
) -> None:
    newer = await a_job(store)
    await is_newer(store, newer, readable=readable)
    assert await claims(store, "old").take(5) == []
    assert await claims(store, "another old one").take(5) == []
    later = await a_job(store)
    with next_workers():
        taken = await claims(store, "new").take(1)
        assert [delivery.job_id for delivery in taken] == [newer]
        assert [delivery.job_id for delivery in await claims(store, "new").take(1)] == [later]
        assert await types_of(store, newer) == ["submitted"]
        await audit(store)


async def test_it_waits_for_a_newer_worker_for_longer_than_a_lease_and_no_recovery_takes_it(
    store: EventStore,
) -> None:
    newer = await a_job(store)
    await is_newer(store, newer)
    await claims(store, "old").take(5)
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    assert await a_recovery(store, "old").recover() == 0
    with next_workers():
        assert await a_recovery(store, "new").recover() == 0
        assert await types_of(store, newer) == ["submitted"]
        assert [one.job_id for one in await claims(store, "new").take(5)] == [newer]


async def test_a_paused_queue_holds_what_was_handed_over_too(store: EventStore) -> None:
    newer = await a_job(store)
    await is_newer(store, newer)
    await claims(store, "old").take(5)
    await store.client.execute_command("SADD", store.shards[0].paused, "default")
    with next_workers():
        assert await claims(store, "new").take(5) == []


async def test_an_entry_whose_job_ended_meanwhile_is_cleared_away(store: EventStore) -> None:
    newer = await a_job(store)
    await is_newer(store, newer)
    await claims(store, "old").take(5)
    await store.client.hdel(store.shards[0].head(newer), "entry")
    with next_workers():
        assert await claims(store, "new").take(5) == []
    assert await holders(store) == {}


async def test_an_older_worker_s_recovery_leaves_a_dead_newer_worker_s_job_as_silent_as_it_was(
    store: EventStore,
) -> None:
    newer = await a_job(store)
    await take(store, "dead", 1)
    await is_newer(store, newer)
    await asyncio.sleep(LEASE_SECONDS + 0.05)
    for _ in range(2):
        assert await a_recovery(store, "old").recover() == 0
    with next_workers():
        assert await a_recovery(store, "new").recover() == 1
        lost = (await store.history(newer))[-1].event
    assert isinstance(lost, AttemptLost)
    assert (lost.why, lost.worker) == (LostBecause.LEASE_RAN_OUT, "dead")


async def _leases(store: EventStore, jobs: list[str]) -> tuple[Leases, list[Lease]]:
    """The leases of a worker that runs all of `jobs`."""
    leases, held = Leases(store, store.client, "old", 30.0), []
    for delivery in await claims(store, "old").take(len(jobs)):
        known, proof = delivery.head.job, Proof("old", delivery.entry)
        recorded = await store.append(delivery.job_id, known, decide(known, Claim("old")), proof)
        assert isinstance(recorded.job, Running)
        held.append(Lease(delivery.job_id, recorded.job, proof))
        leases.add(held[-1])
    return leases, held


async def test_a_running_job_that_a_newer_release_wrote_stops_here_and_goes_on_there(
    store: EventStore,
) -> None:
    jobs = [await a_job(store) for _ in range(2)]
    leases, [newer, ours] = await _leases(store, jobs)
    await is_newer(store, newer.job_id, readable=False)
    await store.client.hincrby(store.shards[0].head(newer.job_id), "version", 1)
    await leases.renew()
    assert (newer.interruption, ours.interruption) == (Interruption.NEWER, None)
    await store.client.hincrby(store.shards[0].head(newer.job_id), "version", -1)
    await leases.release(newer.job_id, newer.job, newer.claim.entry)
    assert (await holders(store))[HANDED_OVER] > 60_000
    assert await a_recovery(store, "old").recover() == 0
    with next_workers():
        assert await a_recovery(store, "new").recover() == 1
        job = (await store.require(newer.job_id)).job
        lost = (await store.history(newer.job_id))[-1].event
    assert isinstance(job, Queued)
    assert job.lost_workers == (), "it cost no delivery"
    assert isinstance(lost, AttemptLost)
    assert (lost.worker, lost.why) == ("old", LostBecause.DRAINED)


async def test_nobody_lets_go_of_what_another_has(store: EventStore) -> None:
    job = await a_job(store)
    leases, [lease] = await _leases(store, [job])
    client: Any = store.client
    lane = store.shards[0].ready(LANE)
    await client.xclaim(lane, "workers", "another", 0, [lease.claim.entry], justid=True)
    await leases.release(job, lease.job, lease.claim.entry)
    assert set(await holders(store)) == {"another"}


async def test_an_outcome_that_may_not_be_written_is_left_to_a_newer_worker(
    server: RedisServer, store: EventStore
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream, lease_seconds=30.0):
        job = await a_job(store)
        await upstream.calls.get()
        async with asyncio.timeout(10):
            while not isinstance((await store.require(job)).job, Running):
                await asyncio.sleep(0.01)
        await is_newer(store, job)
        upstream.gate.set()
        async with asyncio.timeout(10):
            while set(await holders(store)) != {HANDED_OVER}:
                await asyncio.sleep(0.01)
        other = await a_job(store)
        await ended(store, other)
    assert await types_of(store, job) == ["submitted", "claimed"]


async def test_a_lane_of_a_newer_release_is_read_by_nobody_older(
    server: RedisServer, open_store: OpenStore
) -> None:
    store = await open_store()
    await store.client.execute_command("SADD", store.shards[0].lanes, "express:default:echo")
    async with a_worker(server, Scripted()):
        await ended(store, await a_job(store))


@pytest.mark.parametrize("readable", [True, False])
async def test_what_a_newer_release_wrote_is_read_if_that_says_so_and_never_written(
    store: EventStore, readable: bool
) -> None:
    job = await a_job(store)
    before = (await store.require(job)).job
    await is_newer(store, job, readable=readable)
    if readable:
        assert (await store.require(job)).job == before
    else:
        with pytest.raises(FromTheFuture, match="upgrade it"):
            await store.require(job)
    with pytest.raises(FromTheFuture, match=f"job {job} was written under schema {NEXT_SCHEMA}"):
        await store.append(job, before, decide(before, Claim("old")))
