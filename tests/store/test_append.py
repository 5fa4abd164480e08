"""What one append does, and what it refuses before it writes anything."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as LostConnection

from consumers.claims import Claims
from core import functions
from core.commands import Cancel, Claim, Complete, Enqueue, Requeue
from core.errors import (
    Conflict,
    DuplicateKey,
    FromTheFuture,
    NotOwner,
    QueueFull,
    StoreFull,
    StoreUnavailable,
    UnknownJob,
)
from core.events import Enqueued, Kind, Submitted, Timings
from core.job import CommandRefused, decide
from core.records import Bounds
from core.redis import connect
from core.states import Cancelled, Queued
from core.store import Claim as Proof
from core.store import EventStore, Fence, IdempotencyKey
from tests.conftest import OpenStore
from tests.given import CHAT, a_job, new_id, submitted
from tests.releases.newer import is_newer
from tests.servers import RedisServer
from tests.store.audit import audit


async def test_a_submitted_job_is_in_the_log_byte_for_byte(store: EventStore) -> None:
    job = new_id()
    event = submitted(kind=Kind.CHAT, metadata={"team": "search"})
    recorded = await store.submit(job, event)
    [entry] = await store.history(job)
    assert isinstance(entry.event, Submitted)
    assert bytes(entry.event.request) == bytes(CHAT)
    assert entry.event.metadata == {"team": "search"}
    assert (entry.version, entry.sequence, entry.id) == (1, 1, recorded.log_ids[0])
    await audit(store)


async def test_a_conflict_carries_the_newer_state_and_writes_nothing(store: EventStore) -> None:
    job = await a_job(store)
    old = (await store.require(job)).job
    newer = (await store.execute(job, Cancel("first"))).job
    with pytest.raises(Conflict) as conflict:
        await store.append(job, old, decide(old, Cancel("second")))
    assert conflict.value.newer == newer
    assert len(await store.history(job)) == 2


async def test_of_many_writers_one_wins_and_the_others_see_what_it_did(store: EventStore) -> None:
    job = await a_job(store)
    known = (await store.require(job)).job
    outcomes = await asyncio.gather(
        *(store.append(job, known, decide(known, Cancel(f"w{n}"))) for n in range(50)),
        return_exceptions=True,
    )
    conflicts = [one for one in outcomes if isinstance(one, Conflict)]
    assert len(conflicts) == 49
    assert all(isinstance(one.newer, Cancelled) for one in conflicts)


class LosesReplies:
    """A client whose first calls are carried out, and whose replies never come."""

    def __init__(self, client: Redis, losses: int) -> None:
        self._client = client
        self._losses = losses

    async def execute_command(self, *arguments: Any) -> Any:
        reply = await self._client.execute_command(*arguments)
        if self._losses:
            self._losses -= 1
            raise LostConnection("connection reset in mid-reply")
        return reply


@pytest.mark.parametrize("losses", [1, 3])
async def test_what_is_sent_again_after_a_lost_reply_is_answered_and_not_repeated(
    store: EventStore, losses: int
) -> None:
    unlucky: Any = LosesReplies(store.client, losses)
    lossy = EventStore(unlucky, 1, Bounds())
    jobs = [new_id() for _ in range(5)]
    recorded = await asyncio.gather(*(lossy.submit(job, submitted()) for job in jobs))
    for job, one in zip(jobs, recorded, strict=True):
        assert [entry.id for entry in await store.history(job)] == list(one.log_ids)
    await audit(store)


async def test_a_lost_reply_to_a_submission_with_a_key_is_answered_with_its_own_job(
    store: EventStore,
) -> None:
    unlucky: Any = LosesReplies(store.client, 1)
    key = IdempotencyKey("default", "k", "f")
    job = new_id()
    recorded = await EventStore(unlucky, 1, Bounds()).submit(job, submitted(), key)
    assert recorded.log_ids == (await store.require(job)).log_ids


async def test_a_store_that_does_not_answer_is_said_to_be_so_in_bounded_time() -> None:
    client = connect("redis://127.0.0.1:1/0")
    store = EventStore(client, 1, Bounds(patience_seconds=0.2))
    with pytest.raises(StoreUnavailable):
        await store.submit(new_id(), submitted())
    await client.aclose()


async def test_an_idempotency_key_has_one_job(store: EventStore) -> None:
    key = IdempotencyKey("default", "k", "fingerprint")
    first = new_id()
    await store.submit(first, submitted(), key)
    with pytest.raises(DuplicateKey) as duplicate:
        await store.submit(new_id(), submitted(), key)
    assert (duplicate.value.job_id, duplicate.value.fingerprint) == (first, "fingerprint")
    await store.submit(new_id(), submitted(), IdempotencyKey("another", "k", "fingerprint"))
    assert len(await audit(store)) == 2


async def test_a_full_queue_takes_no_more_and_another_one_does(open_store: OpenStore) -> None:
    store = await open_store(waiting_max=2, scheduled_max=1)
    for _ in range(2):
        await a_job(store)
    with pytest.raises(QueueFull) as full:
        await a_job(store)
    assert (full.value.depth, full.value.limit) == (2, 2)
    await a_job(store, delay_ms=60_000)
    with pytest.raises(QueueFull):
        await a_job(store, delay_ms=60_000)
    await a_job(store, queue="another")
    await audit(store)


async def test_a_nearly_full_redis_takes_no_jobs_but_finishes_those_it_has(
    store: EventStore,
) -> None:
    job = await a_job(store)
    used = int((await store.client.info("memory"))["used_memory"])
    await store.client.config_set("maxmemory", str(int(used * 1.05)))
    await asyncio.sleep(0.15)  # How long the last look at the memory counts.
    with pytest.raises(StoreFull):
        await a_job(store)
    await store.client.config_set("maxmemory", str(int(used * 0.5)))
    with pytest.raises(StoreFull):
        await a_job(store)
    await store.execute(job, Cancel("me"))
    assert isinstance((await store.require(job)).job, Cancelled)


async def test_a_claim_needs_the_lane_entry(store: EventStore) -> None:
    job = await a_job(store)
    head = await store.require(job)
    events = decide(head.job, Claim("w1"))
    with pytest.raises(NotOwner):
        await store.append(job, head.job, events, Proof("w1", head.entry or ""))
    assert (await store.require(job)).job == head.job


async def test_a_claim_needs_the_lane_entry_of_its_own_job(store: EventStore) -> None:
    await a_job(store)
    await a_job(store)
    one, other = await Claims(store, "w1", (), lambda: {"echo"}).take(2)
    events = decide(one.head.job, Claim("w1"))
    with pytest.raises(NotOwner):
        await store.append(one.job_id, one.head.job, events, Proof("w1", other.entry))
    await store.append(one.job_id, one.head.job, events, Proof("w1", one.entry))


@pytest.mark.parametrize("fence", [Fence(2, "w1"), Fence(1, "w2")])
async def test_an_outcome_needs_the_claim_and_its_worker(store: EventStore, fence: Fence) -> None:
    """A store that lost its tail has the same version again, of another worker's claim."""
    job = await a_job(store)
    running = (await store.execute(job, Claim("w1"))).job
    outcome = decide(running, Complete(1, CHAT, Timings(ran_ms=1)))
    with pytest.raises(NotOwner):
        await store.append(job, running, outcome, fence)
    assert (await store.require(job)).job == running
    await store.append(job, running, outcome, Fence(1, "w1"))
    await audit(store)


async def test_a_head_of_a_newer_release_is_not_written_by_this_one(store: EventStore) -> None:
    job = await a_job(store)
    known = (await store.require(job)).job
    await is_newer(store, job, readable=False)
    with pytest.raises(FromTheFuture, match="upgrade"):
        await store.append(job, known, decide(known, Cancel("me")))
    with pytest.raises(FromTheFuture, match="upgrade"):
        await store.require(job)


async def test_an_ended_job_is_kept_for_the_retention_and_a_requeue_keeps_it_for_good(
    open_store: OpenStore,
) -> None:
    store = await open_store(retention_ms=60_000)
    job = await a_job(store)
    await store.execute(job, Cancel("me"))
    head = store.shards[0].head(job)
    assert 0 < await store.client.pttl(head) <= 60_000
    await store.execute(job, Requeue("me"))
    assert await store.client.pttl(head) == -1
    await audit(store)


async def test_unknown_jobs_and_shards_are_told_apart_from_errors(store: EventStore) -> None:
    assert await store.load(new_id()) is None
    assert await store.view(new_id()) is None
    assert await store.history(new_id()) == []
    with pytest.raises(UnknownJob):
        await store.require(new_id())
    with pytest.raises(UnknownJob):
        await store.load(new_id(shard=7))


async def test_many_heads_come_in_the_order_they_were_asked_for(open_store: OpenStore) -> None:
    store = await open_store(shards=4)
    jobs = [await a_job(store, shard=shard) for shard in (3, 0, 2, 1, 3)]
    heads = await store.load_many([*jobs, new_id()])
    assert [head.log_ids[0] if head else None for head in heads] == [
        *[(await store.history(job))[0].id for job in jobs],
        None,
    ]


async def test_the_feed_reads_on_from_a_position(store: EventStore) -> None:
    for _ in range(5):
        await a_job(store)
    first = await store.feed(0, "0-0", count=2)
    rest = await store.feed(0, first[-1].id)
    assert [entry.sequence for entry in first + rest] == [1, 2, 3, 4, 5]


async def test_a_view_has_a_job_s_first_and_last_event(store: EventStore) -> None:
    job = await a_job(store, delay_ms=60_000)
    await store.execute(job, Enqueue())
    view = await store.view(job)
    assert view is not None
    assert isinstance(view.head.job, Queued)
    assert view.submitted == submitted(delay_ms=60_000)
    assert view.last == Enqueued()


async def test_what_the_domain_refuses_is_not_sent(store: EventStore) -> None:
    job = await a_job(store)
    with pytest.raises(CommandRefused):
        await store.execute(job, Requeue("me"))
    assert len(await store.history(job)) == 1


async def test_functions_that_are_missing_are_named_with_the_command_that_brings_them(
    server: RedisServer, client: Redis
) -> None:
    await client.execute_command("FUNCTION", "FLUSH")
    with pytest.raises(Exception, match="respool migrate"):
        await functions.call(client, "heads", ["respool:{0}:job:x"], {})


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_that_is_cancelled_is_cancelled_even_as_its_answer_comes(
    store: EventStore, turns: int
) -> None:
    job = await a_job(store)
    for _ in range(20):
        call = asyncio.create_task(store.load(job))
        for _ in range(turns):
            await asyncio.sleep(0)
        if call.cancel():
            with pytest.raises(asyncio.CancelledError):
                await call
    assert (await store.require(job)).job.version == 1
