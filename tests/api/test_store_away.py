"""While Redis is away every answer comes soon and says so; once it is back, all goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from tests.api.conftest import Api, serving_api
from tests.api.errors import error_of
from tests.api.soon import listeners, soon
from tests.api.sse import streaming
from tests.api.workers import a_worker
from tests.servers import RedisServer, valkey

SOON_SECONDS = 5


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, which comes back with what it had."""
    server = valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def mortal_store(mortal: RedisServer) -> AsyncIterator[EventStore]:
    client = connect(mortal.url)
    await migrate(client)
    yield EventStore(client, 1, Bounds())
    await client.aclose()


@pytest.fixture
async def api(mortal_store: EventStore) -> AsyncIterator[Api]:
    """An API with a worker that claims nothing, on a server that can go away."""
    await a_worker(mortal_store)
    async with serving_api(mortal_store) as api:
        yield api


async def is_ready(api: Api) -> bool:
    return (await api.http.get("/readyz")).status_code == 200


async def is_away(api: Api) -> bool:
    return (await api.http.get("/readyz")).status_code == 503


async def test_every_call_is_503_soon_while_redis_is_away(api: Api, mortal: RedisServer) -> None:
    job_id = await api.submit()
    path = f"/v1/jobs/{job_id}"
    mortal.stop()
    async with asyncio.timeout(SOON_SECONDS):
        answers = await asyncio.gather(
            api.post(),
            api.post({"Idempotency-Key": "one", "Prefer": "wait=60"}),
            *(
                api.http.get(path + way)
                for way in ("", "?wait=60", "/result", "/events", "/output")
            ),
            *(api.http.post(path + way) for way in ("/cancel", "/requeue")),
        )
    for answer in answers:
        error_of(answer, 503, "store_unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_what_was_accepted_is_there_again_and_the_api_works_again(
    api: Api, mortal: RedisServer
) -> None:
    job_id = await api.submit(metadata={"kept": "yes"})
    before = await api.job(job_id)
    mortal.stop()
    error_of(await api.http.get(f"/v1/jobs/{job_id}"), 503, "store_unavailable")
    mortal.start()
    assert await api.job(job_id) == before
    assert (await api.post()).status_code == 202


async def test_connections_that_redis_lost_in_silence_trouble_nobody(
    api: Api, mortal: RedisServer
) -> None:
    job_id = await api.submit()
    await asyncio.gather(*(api.job(job_id) for _ in range(20)))
    mortal.stop()
    mortal.start()
    await asyncio.gather(*(api.job(job_id) for _ in range(20)))


async def test_a_submission_waits_for_a_redis_that_is_back_soon(
    api: Api, mortal: RedisServer
) -> None:
    await api.submit()  # Which models are served is known now, for a second.
    mortal.stop()
    submission = asyncio.create_task(api.post())
    await asyncio.to_thread(mortal.start)
    answer = await submission
    assert answer.status_code == 202
    assert (await api.job(answer.json()["id"]))["status"] == "queued"


async def test_a_submission_sent_again_after_a_503_is_one_job(
    api: Api, mortal: RedisServer
) -> None:
    key = {"Idempotency-Key": "one"}
    mortal.stop()
    error_of(await api.post(key), 503, "store_unavailable")
    mortal.start()
    first, again = await api.post(key), await api.post(key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]


async def test_readyz_says_that_redis_is_away_and_healthz_does_not_mind(
    api: Api, mortal: RedisServer
) -> None:
    assert await is_ready(api)
    mortal.stop()
    await soon(lambda: is_away(api))
    answer = await api.http.get("/readyz")
    assert answer.json()["status"].startswith("Redis does not answer")
    assert (await api.http.get("/healthz")).status_code == 200
    mortal.start()
    await soon(lambda: is_ready(api))


@pytest.mark.parametrize("way", ["events", "output"])
async def test_a_stream_outlives_a_redis_that_goes_and_comes_back(
    api: Api, mortal: RedisServer, way: str
) -> None:
    job_id = await api.submit()
    async with streaming(api, f"/v1/jobs/{job_id}/{way}") as stream:
        if way == "events":
            assert await stream.take(1) == [("1", "submitted")]
        mortal.stop()
        error_of(await api.http.get(f"/v1/jobs/{job_id}"), 503, "store_unavailable")
        mortal.start()
        assert (await api.http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 202
        assert [name for _, name in await stream.rest()] == ["cancelled"]


@pytest.mark.parametrize("way", ["events", "output"])
async def test_a_stream_ends_when_the_process_stops_while_redis_is_away(
    api: Api, mortal: RedisServer, way: str
) -> None:
    job_id = await api.submit()
    async with streaming(api, f"/v1/jobs/{job_id}/{way}") as stream:
        mortal.stop()
        error_of(await api.http.get(f"/v1/jobs/{job_id}"), 503, "store_unavailable")
        api.bells.close()
        assert await stream.rest() in ([], [("1", "submitted")])


async def test_a_poll_outlives_a_redis_that_comes_back_soon(api: Api, mortal: RedisServer) -> None:
    job_id = await api.submit()
    poll = asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait=60"))
    await soon(lambda: listeners(api, job_id) == 1)
    mortal.stop()
    mortal.start()
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    async with asyncio.timeout(SOON_SECONDS):
        answer = await poll
    assert answer.json().get("status") == "cancelled", answer.text


async def test_a_store_that_was_emptied_says_what_to_run(
    api: Api, mortal_store: EventStore
) -> None:
    job_id = await api.submit()
    await mortal_store.client.execute_command("FUNCTION", "FLUSH")
    error = error_of(await api.http.get(f"/v1/jobs/{job_id}"), 503, "store_not_ready")
    assert "respool migrate" in error["message"]


async def test_a_full_redis_takes_no_new_jobs_and_shows_the_old_ones(
    api: Api, mortal_store: EventStore
) -> None:
    job_id = await api.submit()
    await mortal_store.client.config_set("maxmemory", "1mb")
    answer: httpx.Response | None = None

    async def is_refused() -> bool:
        nonlocal answer
        answer = await api.post()
        return answer.status_code != 202

    await soon(is_refused)
    assert answer is not None
    error_of(answer, 503, "store_full")
    assert "retry-after" in answer.headers
    assert (await api.job(job_id))["status"] == "queued"
    assert (await api.http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 202
