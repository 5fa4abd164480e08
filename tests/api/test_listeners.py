"""Who listens costs one subscription for each job, and nothing once they are gone."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from core.commands import Claim
from core.events import Submitted
from core.keys import API_KEYS_BELL_NAME, BELL, WORK_BELL
from core.output import Emitter, Write
from core.store import EventStore
from tests.api.conftest import Api
from tests.api.soon import listeners, soon
from tests.api.sse import streaming
from tests.given import a_job

_ALWAYS = {WORK_BELL, BELL + API_KEYS_BELL_NAME}  # The process itself listens to these.


async def subscriptions(client: Redis, job_id: str) -> int:
    [(_, count)] = await client.pubsub_numsub(BELL + job_id)
    return int(count)


async def test_fifty_readers_of_one_job_are_one_subscription(
    api: Api, client: Redis, idle_worker: None
) -> None:
    job_id = await api.submit()
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(streaming(api, f"/v1/jobs/{job_id}/events"))
            for _ in range(50)
        ]
        assert [await stream.take(1) for stream in streams] == [[("1", "submitted")]] * 50
        assert listeners(api, job_id) == 50
        assert await subscriptions(client, job_id) == 1
        await api.http.post(f"/v1/jobs/{job_id}/cancel")
        assert [await stream.rest() for stream in streams] == [[("2", "cancelled")]] * 50
    await soon(lambda: nobody_listens(api, client, job_id))


async def nobody_listens(api: Api, client: Redis, job_id: str) -> bool:
    return set(api.bells._channels) == _ALWAYS and await subscriptions(client, job_id) == 0


@pytest.mark.parametrize("way", ["events", "output"])
async def test_a_reader_that_goes_away_leaves_no_listener(
    api: Api, client: Redis, idle_worker: None, way: str
) -> None:
    job_id = await api.submit()
    async with streaming(api, f"/v1/jobs/{job_id}/{way}"):
        await soon(lambda: listeners(api, job_id) == 1)
    await soon(lambda: nobody_listens(api, client, job_id))


async def test_a_poll_whose_client_goes_away_leaves_no_listener(
    api: Api, client: Redis, idle_worker: None
) -> None:
    job_id = await api.submit()
    poll = asyncio.create_task(api.job(job_id, wait=3_600))
    await soon(lambda: listeners(api, job_id) == 1)
    poll.cancel()
    await soon(lambda: nobody_listens(api, client, job_id))


async def test_a_submission_whose_client_does_not_wait_for_its_end_leaves_no_listener(
    api: Api, client: Redis, store: EventStore, idle_worker: None
) -> None:
    submission = asyncio.create_task(api.post({"Prefer": "wait=3600"}))
    await soon(lambda: len(api.bells._channels) == len(_ALWAYS) + 1)
    submission.cancel()
    async with asyncio.timeout(10):
        while set(api.bells._channels) != _ALWAYS:
            await asyncio.sleep(0.01)
    [entry] = [one for one in await store.feed(0, "0-0") if isinstance(one.event, Submitted)]
    assert (await api.job(entry.subject))["status"] == "queued"


async def test_one_reader_of_two_that_goes_away_takes_nothing_from_the_other(
    api: Api, idle_worker: None
) -> None:
    job_id = await api.submit()
    path = f"/v1/jobs/{job_id}/events"
    async with streaming(api, path) as stays:
        await stays.take(1)
        async with streaming(api, path) as leaves:
            await leaves.take(1)
        await soon(lambda: listeners(api, job_id) == 1)
        await api.http.post(f"/v1/jobs/{job_id}/cancel")
        assert await stays.rest() == [("2", "cancelled")]


async def test_a_reader_that_reads_nothing_holds_up_nobody_and_leaves_no_listener(
    api: Api, client: Redis, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w"))
    long = b'"' + b"x" * 100_000 + b'"'
    for at in range(0, 300, 30):
        assert await Emitter(store, 1.0).emit(Write(job_id, 1, "w", at + 1, (long,) * 30))
    address = urlsplit(str(api.http.base_url))
    _, writer = await asyncio.open_connection(address.hostname, address.port, limit=1_024)
    writer.write(f"GET /v1/jobs/{job_id}/output HTTP/1.1\r\nHost: api\r\n\r\n".encode())
    await soon(lambda: listeners(api, job_id) == 1)
    async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
        assert len(await stream.take(300)) == 300
    writer.transport.abort()
    await soon(lambda: nobody_listens(api, client, job_id))


async def test_who_waits_for_transitions_is_not_woken_for_each_chunk(
    api: Api, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w"))
    async with (
        api.bells.hear(job_id, is_for_output=False) as waiting,
        api.bells.hear(job_id) as reading,
    ):
        waiting.hush()
        reading.hush()
        assert await Emitter(store, 1.0).emit(Write(job_id, 1, "w", 1, (b"{}",)))
        assert await reading.wait(10)
        assert not await waiting.wait(0)
        await api.http.post(f"/v1/jobs/{job_id}/cancel")
        assert await waiting.wait(10)
