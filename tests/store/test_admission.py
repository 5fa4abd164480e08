"""What a submission is held to: the queue's limit, and what its API key may have and ask for."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from redis.asyncio import Redis

from core.access import KeyLimits
from core.commands import Cancel, Claim, Complete, Lose, Requeue
from core.errors import DuplicateKey, KeyBusy, OverLimit, QueueFull, RateLimited
from core.events import LostBecause, Timings, Usage
from core.keys import in_flight_field
from core.rates import FILLS_IN_MS
from core.records import Bounds
from core.redis import connect
from core.store import EventStore, IdempotencyKey, Recorded
from tests.conftest import OpenStore
from tests.given import CHAT, a_job, new_id, submitted
from tests.servers import RedisServer
from tests.store.audit import audit
from tests.store.test_append import LosesReplies

KEY = "k-1"


async def submit(
    store: EventStore, again: IdempotencyKey | None = None, shard: int = 0, **limits: Any
) -> Recorded:
    """Submit a job for an API key with these limits."""
    return await store.submit(new_id(shard), submitted(key=KEY), again, KeyLimits(**limits))


async def a_keyed_job(store: EventStore, **limits: Any) -> str:
    job = new_id()
    await store.submit(job, submitted(key=KEY), None, KeyLimits(**limits))
    return job


async def complete(store: EventStore, job: str, tokens: int) -> None:
    """A worker runs the job, and the inference server says how many tokens that took."""
    await store.execute(job, Claim("w1"))
    await store.execute(job, Complete(1, CHAT, Timings(ran_ms=1), Usage(0, tokens, tokens)))


async def outcomes(work: list[Coroutine[Any, Any, Any]]) -> tuple[int, list[OverLimit]]:
    """How many were accepted, and what the others were refused for."""
    done = await asyncio.gather(*work, return_exceptions=True)
    refused = [one for one in done if isinstance(one, OverLimit)]
    failed = [one for one in done if isinstance(one, BaseException)]
    assert len(failed) == len(refused), failed
    return len(done) - len(refused), refused


def submit_many(url: str, jobs: int, limit: int, start: Any, accepted: Any) -> None:
    """One process of the race: it submits all of its jobs at once."""

    async def run() -> int:
        client = connect(url)
        store = EventStore(client, 1, Bounds(waiting_max=limit, patience_seconds=30.0))
        start.wait()
        taken, _ = await outcomes([a_job(store) for _ in range(jobs)])
        await client.aclose()
        return taken

    accepted.put(asyncio.run(run()))


async def test_any_number_of_processes_keep_the_limit_of_a_queue_to_the_job(
    server: RedisServer, store: EventStore
) -> None:
    processes, limit = 4, 150
    context = multiprocessing.get_context("spawn")
    start, accepted = context.Barrier(processes), context.Queue()
    racing = [
        context.Process(target=submit_many, args=(server.url, 200, limit, start, accepted))
        for _ in range(processes)
    ]
    for process in racing:
        process.start()
    shares = [await asyncio.to_thread(accepted.get, timeout=60) for _ in racing]
    for process in racing:
        await asyncio.to_thread(process.join)
    assert sum(shares) == limit
    assert len(await audit(store)) == limit


@pytest.fixture
async def several(server: RedisServer, store: EventStore) -> AsyncIterator[list[EventStore]]:
    """Stores of several API processes, each with a connection of its own."""
    clients = [connect(server.url) for _ in range(4)]
    yield [EventStore(client, 1, Bounds()) for client in clients]
    for client in clients:
        await client.aclose()


async def test_any_number_of_stores_keep_a_key_s_jobs_in_flight_to_the_job(
    several: list[EventStore],
) -> None:
    taken, refused = await outcomes(
        [submit(store, jobs_in_flight=17) for _ in range(50) for store in several]
    )
    assert taken == 17
    assert {str(one) for one in refused} == {
        "17 jobs of this API key have not ended, and it may have 17 in flight"
    }
    assert len(await audit(several[0])) == 17


async def test_any_number_of_stores_keep_a_key_s_requests_a_minute_to_the_request(
    several: list[EventStore],
) -> None:
    taken, refused = await outcomes(
        [submit(store, requests_per_minute=7) for _ in range(20) for store in several]
    )
    assert taken == 7
    assert all(isinstance(one, RateLimited) and one.which == "requests" for one in refused)
    assert len(await audit(several[0])) == 7


@pytest.mark.parametrize("limit", [1, 3, 7, 60, 1_001, 999_983])
async def test_a_bucket_gives_all_that_it_holds_and_says_what_is_left(
    store: EventStore, limit: int
) -> None:
    for taken in range(1, min(limit, 7) + 1):
        level = (await submit(store, requests_per_minute=limit)).levels.requests
        assert level is not None
        assert (
            limit - taken <= level.remaining
        )  # A large one may have filled up a little meanwhile.
        assert 0 <= level.lacks_ms <= FILLS_IN_MS * taken / limit + 0.001
        assert (level.wait_ms == 0) == (level.remaining > 0)


async def test_each_shard_has_its_share_of_every_limit_rounded_up(open_store: OpenStore) -> None:
    store = await open_store(shards=3, waiting_max=7, scheduled_max=1)
    taken, [refused, *_] = await outcomes([a_job(store, shard=shard) for shard in (0, 1, 2) * 5])
    assert taken == 9
    assert str(refused) == (
        "queue 'default' is full: 3 jobs wait, and it takes 3 on each of 3 shards"
    )
    limits: dict[str, Any] = {"requests_per_minute": 4, "jobs_in_flight": 7}
    for shard in range(3):
        await store.client.delete(store.shards[shard].counts)
        taken, _ = await outcomes([submit(store, shard=shard, **limits) for _ in range(5)])
        assert taken == 2


async def test_which_limit_was_hit_is_said(open_store: OpenStore) -> None:
    store = await open_store(waiting_max=1, scheduled_max=1)
    await a_job(store)
    with pytest.raises(QueueFull, match=r"'default' is full: 1 jobs wait, and it takes 1$"):
        await a_job(store)
    await a_job(store, delay_ms=60_000)
    with pytest.raises(QueueFull, match=r"is full: 1 jobs are scheduled for it, and it takes 1$"):
        await a_job(store, delay_ms=60_000)
    limits = KeyLimits(requests_per_minute=1)
    await store.submit(new_id(), submitted(key=KEY, queue="another"), None, limits)
    with pytest.raises(RateLimited, match=r"this API key may have 1 requests a minute"):
        await store.submit(new_id(), submitted(key=KEY, queue="a third"), None, limits)


async def test_a_key_s_jobs_count_until_they_have_ended_and_again_after_a_requeue(
    store: EventStore,
) -> None:
    async def in_flight() -> int:
        await audit(store)
        client: Any = store.client
        return int(await client.hget(store.shards[0].counts, in_flight_field(KEY)) or 0)

    job, _ = [await a_keyed_job(store, jobs_in_flight=2) for _ in range(2)]
    with pytest.raises(KeyBusy):
        await submit(store, jobs_in_flight=2)
    await store.execute(job, Claim("w1"))
    await store.execute(job, Lose(1, LostBecause.DRAINED, 5))
    assert await in_flight() == 2
    await store.execute(job, Cancel("me"))
    assert await in_flight() == 1
    await submit(store, jobs_in_flight=2)
    await store.execute(job, Requeue("ops"))  # An operator is held to no limit.
    assert await in_flight() == 3
    with pytest.raises(KeyBusy) as busy:
        await submit(store, jobs_in_flight=2)
    assert (busy.value.in_flight, busy.value.limit) == (3, 2)


async def test_jobs_of_another_key_and_of_none_do_not_count(store: EventStore) -> None:
    await submit(store, jobs_in_flight=1, requests_per_minute=1)
    await a_job(store)
    limits = KeyLimits(jobs_in_flight=1, requests_per_minute=1)
    await store.submit(new_id(), submitted(key="k-2"), None, limits)


async def left(store: EventStore) -> dict[str, str]:
    """The buckets of the key, as they are stored."""
    client: Any = store.client
    fields = await client.hgetall(store.shards[0].buckets(KEY))
    return {name.decode(): value.decode() for name, value in fields.items()}


LIMITS: dict[str, Any] = {"requests_per_minute": 2, "tokens_per_minute": 100, "jobs_in_flight": 5}


async def test_a_duplicate_takes_nothing(store: EventStore) -> None:
    again = IdempotencyKey("default", "again", "f")
    await submit(store, again, **LIMITS)
    before = await left(store)
    for _ in range(3):
        with pytest.raises(DuplicateKey):
            await submit(store, again, **LIMITS)
    assert await left(store) == before
    await submit(store, **LIMITS)


async def test_a_refused_submission_takes_nothing(open_store: OpenStore) -> None:
    store = await open_store(waiting_max=1)
    await submit(store, **LIMITS)
    before = await left(store)
    with pytest.raises(QueueFull) as full:
        await submit(store, **LIMITS)
    assert await left(store) == before
    requests = full.value.left.requests
    assert requests is not None
    assert requests.remaining == 1


async def test_one_that_is_sent_again_after_a_lost_reply_is_taken_for_once(
    store: EventStore,
) -> None:
    unlucky: Any = LosesReplies(store.client, 1)
    lossy = EventStore(unlucky, 1, Bounds())
    recorded = await submit(lossy, **LIMITS)
    assert recorded.levels.requests is not None
    assert recorded.levels.requests.remaining == 1
    assert len(await audit(store)) == 1
    await submit(store, **LIMITS)
    with pytest.raises(RateLimited):
        await submit(store, **LIMITS)


async def test_tokens_are_paid_for_when_the_answer_says_how_many_there_were(
    store: EventStore,
) -> None:
    jobs = [await a_keyed_job(store, tokens_per_minute=100) for _ in range(2)]
    await complete(store, jobs[0], tokens=40)
    tokens = (await submit(store, tokens_per_minute=100)).levels.tokens
    assert tokens is not None
    assert 60 <= tokens.remaining <= 61
    await complete(store, jobs[1], tokens=400)
    with pytest.raises(RateLimited, match="this API key may have 100 tokens a minute") as over:
        await submit(store, tokens_per_minute=100)
    # It lacks 440 tokens, of which 341 have to come back before there is one.
    assert over.value.level.wait_ms == pytest.approx(341 * 600, abs=5_000)
    assert over.value.level.remaining == 0


async def test_one_job_that_takes_more_than_a_minute_s_tokens_is_run_and_paid_off(
    store: EventStore, client: Any
) -> None:
    job = await a_keyed_job(store, tokens_per_minute=100)
    await complete(store, job, tokens=1_000)
    with pytest.raises(RateLimited):
        await submit(store, tokens_per_minute=100)
    buckets = store.shards[0].buckets(KEY)
    await client.hincrbyfloat(buckets, "tokens", -(901 * 600))  # That much later.
    await submit(store, tokens_per_minute=100)


async def test_who_is_held_to_no_tokens_pays_none(store: EventStore) -> None:
    job = await a_keyed_job(store, requests_per_minute=10)
    before = await left(store)
    await complete(store, job, tokens=1_000)
    assert await left(store) == before
    job = await a_keyed_job(store)
    await complete(store, job, tokens=1_000)
    assert await left(store) == before
    await audit(store)


async def test_a_limit_that_was_changed_holds_from_the_next_submission_on(
    store: EventStore,
) -> None:
    await submit(store, requests_per_minute=1)
    with pytest.raises(RateLimited):
        await submit(store, requests_per_minute=1)
    client: Any = store.client
    await client.hincrbyfloat(store.shards[0].buckets(KEY), "requests", -30_000)
    requests = (await submit(store, requests_per_minute=10)).levels.requests
    assert requests is not None
    assert requests.remaining == 4


async def test_buckets_of_a_key_that_is_not_used_any_more_go(store: EventStore) -> None:
    await submit(store, requests_per_minute=1)
    left_ms = await store.client.pttl(store.shards[0].buckets(KEY))
    assert 0 < left_ms <= store.bounds.retention_ms


async def test_what_an_older_release_stored_has_no_key_and_goes_on(
    client: Redis, store: EventStore
) -> None:
    job = await a_job(store)
    redis: Any = client
    await redis.hset(store.shards[0].head(job), "schema", "1")
    await redis.hdel(store.shards[0].head(job), "readable_from")
    await store.execute(job, Cancel("me"))
    assert (await store.require(job)).job.key is None
    await audit(store)
