"""A job's output as it comes: no gap, no repeat, and no word of an attempt that was lost."""

import pytest
from msgspec import Raw
from redis.asyncio import Redis

from core.commands import Cancel, Claim, Complete, Fail, Lose
from core.events import ErrorKind, JobError, LostBecause, Timings
from core.head import Head
from core.keys import BELL
from core.output import Emitter, Write
from core.store import EventStore
from tests.api.conftest import Api, OpenApi
from tests.api.sse import Stream, streaming, whole
from tests.api.workers import Script
from tests.given import a_job

LEASE_RAN_OUT = {"claim": 1, "outcome": "attempt_lost", "why": "lease ran out"}
DONE = Complete(1, Raw(b"{}"), Timings(0))
ECHOED = [
    ("1-1", "chunk"),
    ("1-2", "chunk"),
    ("1-3", "chunk"),
    ("1-4", "chunk"),
    ("1-4", "completed"),
]


async def emit(store: EventStore, job_id: str, claim: int, sequence: int, *words: str) -> None:
    chunks = tuple(f'"{word}"'.encode() for word in words)
    assert await Emitter(store, 1.0).emit(Write(job_id, claim, "w1", sequence, chunks))


async def lose(store: EventStore, job_id: str, claim: int) -> None:
    await store.execute(job_id, Lose(claim, LostBecause.LEASE_RAN_OUT, deliveries_max=5))


async def next_one(stream: Stream) -> tuple[str, str, object]:
    event = await stream.next()
    return event.id, event.event, event.json()


async def test_chunks_are_named_for_their_claim_and_number(api: Api, echo_worker: None) -> None:
    assert await whole(api, f"/v1/jobs/{await api.submit()}/output") == ECHOED


async def test_chunks_come_as_the_model_says_them(api: Api, script: Script) -> None:
    job_id = await api.submit()
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        script.say("hello")
        assert await next_one(stream) == ("1-1", "chunk", {"word": "hello"})
        script.say("\u2028two\nlines", "🐘")
        assert await next_one(stream) == ("1-2", "chunk", {"word": "\u2028two\nlines"})
        assert await next_one(stream) == ("1-3", "chunk", {"word": "🐘"})
        script.answer()
        assert await next_one(stream) == (
            "1-3",
            "completed",
            {"job_id": job_id, "status": "completed"},
        )
        assert await stream.rest() == []


async def test_output_goes_on_after_the_last_chunk_that_was_seen(
    api: Api, echo_worker: None
) -> None:
    path = f"/v1/jobs/{await api.submit()}/output"
    for seen in range(len(ECHOED) - 1):
        assert await whole(api, path, f"1-{seen}") == ECHOED[seen:]
    assert await whole(api, path, "1-4") == [("", "completed")]


async def test_a_reader_that_comes_back_in_the_middle_misses_and_repeats_nothing(
    api: Api, script: Script
) -> None:
    path = f"/v1/jobs/{await api.submit()}/output"
    script.say("one", "two")
    async with streaming(api, path) as stream:
        assert await stream.take(2) == [("1-1", "chunk"), ("1-2", "chunk")]
    script.say("three")
    async with streaming(api, path, "1-2") as stream:
        assert await next_one(stream) == ("1-3", "chunk", {"word": "three"})
        script.say("four")
        script.answer()
        assert await stream.rest() == [("1-4", "chunk"), ("1-4", "completed")]


async def test_more_chunks_than_one_read_takes_all_come_in_order(
    api: Api, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, *map(str, range(1_200)))
    await store.execute(job_id, DONE)
    chunks = await whole(api, f"/v1/jobs/{job_id}/output")
    assert chunks == [*((f"1-{at}", "chunk") for at in range(1, 1_201)), ("1-1200", "completed")]


async def test_a_lost_attempt_voids_what_was_read_of_it(api: Api, store: EventStore) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "lost")
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        assert await stream.take(1) == [("1-1", "chunk")]
        await lose(store, job_id, 1)
        assert await next_one(stream) == ("1-1", "attempt_lost", LEASE_RAN_OUT)
        await store.execute(job_id, Claim("w1"))
        await emit(store, job_id, 2, 1, "kept")
        assert await next_one(stream) == ("2-1", "chunk", "kept")
        await store.execute(job_id, Complete(2, Raw(b"{}"), Timings(0)))
        assert await stream.rest() == [("2-1", "completed")]


async def test_a_lost_attempt_is_told_once(api: Api, store: EventStore) -> None:
    """Also if the job is looked at again before the next attempt."""
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "lost")
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        await stream.take(1)
        await lose(store, job_id, 1)
        assert await stream.take(1) == [("1-1", "attempt_lost")]
        await store.client.publish(BELL + job_id, "look again")
        await store.execute(job_id, Cancel("a test"))
        assert await stream.rest() == [("1-1", "cancelled")]


async def test_a_failed_attempt_voids_what_was_read_of_it(api: Api, store: EventStore) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "lost")
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        assert await stream.take(1) == [("1-1", "chunk")]
        error = JobError(ErrorKind.SERVER_ERROR, "it broke")
        await store.execute(job_id, Fail(1, error, jitter=0.0))
        why = {"claim": 1, "outcome": "attempt_failed", "why": "it broke"}
        assert await next_one(stream) == ("1-1", "attempt_lost", why)


async def test_a_reader_that_missed_the_loss_is_told_before_the_next_attempts_chunks(
    api: Api, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "lost", "lost too")
    await lose(store, job_id, 1)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 2, 1, "kept")
    await store.execute(job_id, Complete(2, Raw(b"{}"), Timings(0)))
    async with streaming(api, f"/v1/jobs/{job_id}/output", "1-1") as stream:
        assert await stream.take(1) == [("1-2", "chunk")]
        assert await next_one(stream) == ("1-2", "attempt_lost", LEASE_RAN_OUT)
        assert await stream.rest() == [("2-1", "chunk"), ("2-1", "completed")]


async def test_a_worker_that_drained_is_told_as_the_reason(api: Api, store: EventStore) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "lost")
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        await stream.take(1)
        await store.execute(job_id, Lose(1, LostBecause.DRAINED, deliveries_max=5))
        why = {"claim": 1, "outcome": "attempt_lost", "why": "worker drained"}
        assert await next_one(stream) == ("1-1", "attempt_lost", why)


async def test_what_the_log_no_longer_tells_is_lost_without_a_reason(
    api: Api, store: EventStore, client: Redis
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "lost")
    await lose(store, job_id, 1)
    await client.xtrim(store.shards[0].log, maxlen=0, approximate=False)
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        await stream.take(1)
        why = {"claim": 1, "outcome": "attempt_lost", "why": "the log no longer says why"}
        assert await next_one(stream) == ("1-1", "attempt_lost", why)


async def test_a_loss_is_told_also_if_the_attempt_that_ended_well_left_no_chunk(
    api: Api, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "lost")
    await lose(store, job_id, 1)
    await store.execute(job_id, Claim("w1"))
    await store.execute(job_id, Complete(2, Raw(b"{}"), Timings(0)))
    assert await whole(api, f"/v1/jobs/{job_id}/output", "1-1") == [
        ("", "attempt_lost"),
        ("", "completed"),
    ]


class Overtaken(EventStore):
    """A store where a job is claimed and begins to answer just after it was first looked at."""

    is_overtaken = False

    async def load(self, job_id: str) -> Head | None:
        head = await super().load(job_id)
        if not self.is_overtaken:
            self.is_overtaken = True
            await self.execute(job_id, Claim("w1"))
            await emit(self, job_id, 1, 1, "one")
        return head


async def test_a_chunk_that_comes_as_the_job_is_looked_at_is_neither_lost_nor_repeated(
    open_api: OpenApi, store: EventStore
) -> None:
    overtaken = Overtaken(store.client, 1, store.bounds)
    api = await open_api(overtaken)
    job_id = await a_job(store)
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        assert await next_one(stream) == ("1-1", "chunk", "one")
        await emit(store, job_id, 1, 2, "two")
        assert await next_one(stream) == ("1-2", "chunk", "two")
        await store.execute(job_id, DONE)
        assert await stream.rest() == [("1-2", "completed")]


@pytest.mark.parametrize(("written", "seen"), [(3, []), (2, [("1-2", "resync")])])
async def test_a_gap_at_the_end_is_told_too(
    api: Api, store: EventStore, written: int, seen: list[tuple[str, str]]
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    for number in range(1, written + 1):
        await emit(store, job_id, 1, number, str(number))
    await store.execute(job_id, Complete(1, Raw(b"{}"), Timings(0), chunks=3))
    assert await whole(api, f"/v1/jobs/{job_id}/output", "1-1") == [
        *((f"1-{number}", "chunk") for number in range(2, written + 1)),
        *seen,
        (f"1-{written}", "completed"),
    ]


async def test_a_reader_who_comes_when_the_output_has_expired_is_told_so(
    api: Api, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "one")
    await store.execute(job_id, Complete(1, Raw(b"{}"), Timings(0), chunks=1))
    await store.client.delete(store.keys_of(job_id).output(job_id))
    assert await whole(api, f"/v1/jobs/{job_id}/output") == [("", "resync"), ("", "completed")]


async def test_a_gap_tells_the_reader_that_only_the_result_has_all(
    api: Api, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    await emit(store, job_id, 1, 1, "one")
    await emit(store, job_id, 1, 4, "four")
    await store.execute(job_id, DONE)
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        assert await next_one(stream) == ("1-1", "chunk", "one")
        assert await next_one(stream) == ("1-1", "resync", {"claim": 1, "next": 4})
        assert await stream.rest() == [("1-4", "chunk"), ("1-4", "completed")]
