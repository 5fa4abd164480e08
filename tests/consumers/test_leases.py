"""Leases: kept without stealing, lost without writing, and the way a cancel reaches a worker."""

import asyncio
from typing import Any

import pytest
from msgspec import structs

from consumers.claims import Claims
from consumers.leases import Interruption, Lease, Leases
from core.commands import Cancel, Claim, Complete, Lose
from core.events import LostBecause, Timings
from core.job import decide
from core.keys import LaneName
from core.states import Lane, Running
from core.store import Claim as Proof
from core.store import EventStore
from tests.given import CHAT, a_job

LANE = LaneName(Lane.NORMAL, "default", "echo")


class Held:
    """A job that the worker `w1` runs, its lease, and whoever has the lane entry."""

    def __init__(self, store: EventStore, job_id: str, lease: Lease, leases: Leases) -> None:
        self.store = store
        self.job_id = job_id
        self.lease = lease
        self.leases = leases
        self.lane = store.shards[0].ready(LANE)

    async def pending(self) -> dict[str, Any]:
        client: Any = self.store.client
        [row] = await client.xpending_range(self.lane, "workers", "-", "+", 10)
        pending: dict[str, Any] = row
        return pending

    async def is_stolen_by(self, worker: str) -> None:
        client: Any = self.store.client
        await client.xclaim(self.lane, "workers", worker, 0, [self.lease.claim.entry], justid=True)


@pytest.fixture
async def held(store: EventStore) -> Held:
    job_id = await a_job(store)
    [delivery] = await Claims(store, "w1", (), lambda: {"echo"}).take(1)
    proof = Proof("w1", delivery.entry)
    known = delivery.head.job
    recorded = await store.append(job_id, known, decide(known, Claim("w1")), proof)
    assert isinstance(recorded.job, Running)
    leases = Leases(store, store.client, "w1", 30.0)
    lease = Lease(job_id, recorded.job, proof)
    leases.add(lease)
    return Held(store, job_id, lease, leases)


async def test_a_renewal_starts_the_lease_anew_and_counts_as_no_delivery(held: Held) -> None:
    await asyncio.sleep(0.05)
    before = await held.pending()
    await held.leases.renew()
    after = await held.pending()
    assert after["time_since_delivered"] < before["time_since_delivered"]
    assert after["times_delivered"] == before["times_delivered"] == 1
    assert held.lease.interruption is None


async def test_a_renewal_does_not_take_back_what_another_worker_has(held: Held) -> None:
    await held.is_stolen_by("w2")
    await held.leases.renew()
    assert held.lease.interruption is Interruption.LOST
    assert (await held.pending())["consumer"] == b"w2"


async def test_a_lost_claim_interrupts_even_if_the_job_is_this_worker_s_again(held: Held) -> None:
    await held.store.execute(held.job_id, Lose(1, LostBecause.LEASE_RAN_OUT, 5))
    await held.leases.renew()
    assert held.lease.interruption is Interruption.LOST


async def test_two_claims_of_a_job_are_two_leases_even_if_their_lane_entries_have_one_id(
    held: Held,
) -> None:
    """Each lane counts its entries by itself, so the same millisecond gives the same id in both."""
    again = structs.replace(held.lease.job, claims=2, lane=Lane.FRONT)
    newer = Lease(held.job_id, again, held.lease.claim)
    held.leases.add(newer)
    held.leases.remove(held.lease)
    assert len(held.leases) == 1
    assert held.leases.holds(held.job_id, newer.claim.entry)
    held.leases.remove(newer)
    assert len(held.leases) == 0


async def test_a_request_to_cancel_comes_with_the_renewal(held: Held) -> None:
    await held.store.execute(held.job_id, Cancel("me"))
    await held.leases.renew()
    assert held.lease.interruption is Interruption.CANCELLED
    assert held.lease.job.cancel_by == "me"


async def test_an_ended_job_interrupts_its_attempt(held: Held) -> None:
    await held.store.execute(held.job_id, Complete(1, CHAT, Timings(ran_ms=1)))
    await held.leases.renew()
    assert held.lease.interruption is Interruption.LOST


async def test_an_interruption_ends_the_attempt_at_once_whenever_it_comes(held: Held) -> None:
    async def attempt() -> None:
        async with asyncio.timeout(60) as scope:
            held.lease.enter(scope)
            await asyncio.sleep(60)

    held.lease.interrupt(Interruption.DRAINED)
    with pytest.raises(TimeoutError):
        await attempt()


@pytest.mark.parametrize(
    ("then", "counts"),
    [
        (Interruption.CANCELLED, Interruption.DRAINED),
        (Interruption.LOST, Interruption.LOST),
    ],
)
async def test_what_interrupts_first_counts_but_for_a_lost_claim(
    held: Held, then: Interruption, counts: Interruption
) -> None:
    held.lease.interrupt(Interruption.DRAINED)
    held.lease.interrupt(then)
    assert held.lease.interruption is counts


async def test_what_is_added_while_all_is_given_back_is_given_back_too(held: Held) -> None:
    held.leases.interrupt_all(Interruption.DRAINED)
    late = Lease("another", held.lease.job, held.lease.claim)
    held.leases.add(late)
    assert late.interruption is Interruption.DRAINED
