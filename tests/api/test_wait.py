"""A long poll answers when the job ends, and not before."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from core.events import ErrorKind
from core.store import EventStore
from tests.api.conftest import Api, OpenApi
from tests.api.soon import listeners, soon
from tests.api.workers import Script


async def polling(api: Api, job_id: str, wait: float = 15) -> asyncio.Task[dict[str, Any]]:
    """A long poll that the API is listening for."""
    asking: Coroutine[Any, Any, dict[str, Any]] = api.job(job_id, wait)
    poll = asyncio.create_task(asking)
    await soon(lambda: listeners(api, job_id) > 0)
    return poll


async def test_a_poll_answers_when_the_job_ends_and_not_before(api: Api, script: Script) -> None:
    job_id = await api.submit()
    poll = await polling(api, job_id)
    await script.called.wait()
    script.say("something")
    assert (await api.job(job_id))["status"] == "running"
    assert not poll.done()
    script.answer()
    async with asyncio.timeout(5):
        job = await poll
    assert (job["status"], job["version"]) == ("completed", 3)


async def test_a_poll_answers_at_once_for_a_job_that_has_ended(api: Api, echo_worker: None) -> None:
    job_id = await api.submit()
    await api.job(job_id, wait=10)
    async with asyncio.timeout(5):
        assert (await api.job(job_id, wait=15))["status"] == "completed"


async def test_a_poll_answers_with_the_job_as_it_is_when_the_time_is_over(
    api: Api, idle_worker: None
) -> None:
    job_id = await api.submit()
    async with asyncio.timeout(5):
        assert (await api.job(job_id, wait=0.2))["status"] == "queued"


async def test_a_poll_waits_no_longer_than_the_settings_let_it(
    open_api: OpenApi, store: EventStore, idle_worker: None
) -> None:
    api = await open_api(store, sync_timeout_seconds=1)
    job_id = await api.submit()
    async with asyncio.timeout(5):
        assert (await api.job(job_id, wait=3_600))["status"] == "queued"


async def test_a_poll_hears_of_a_cancel(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    poll = await polling(api, job_id)
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    async with asyncio.timeout(5):
        assert (await poll)["status"] == "cancelled"


async def test_a_poll_hears_of_what_another_api_did(
    open_api: OpenApi, store: EventStore, idle_worker: None
) -> None:
    api, other = await open_api(store), await open_api(store)
    job_id = await api.submit()
    poll = await polling(api, job_id)
    await other.http.post(f"/v1/jobs/{job_id}/cancel")
    async with asyncio.timeout(5):
        assert (await poll)["status"] == "cancelled"


async def test_a_poll_says_why_the_job_failed(api: Api, script: Script) -> None:
    job_id = await api.submit()
    poll = await polling(api, job_id)
    script.fail(ErrorKind.BAD_REQUEST, "the model says no")
    async with asyncio.timeout(5):
        job = await poll
    assert job["status"] == "failed"
    assert job["error"] == {
        "kind": "bad_request",
        "message": "the model says no",
        "retry_after_ms": None,
    }


async def test_many_polls_of_one_job_all_answer(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    polls = [asyncio.create_task(api.job(job_id, 15)) for _ in range(50)]
    await soon(lambda: listeners(api, job_id) == 50)
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    async with asyncio.timeout(5):
        jobs = await asyncio.gather(*polls)
    assert {job["status"] for job in jobs} == {"cancelled"}


async def test_a_poll_ends_when_the_process_stops(api: Api, idle_worker: None) -> None:
    poll = await polling(api, await api.submit())
    api.bells.close()
    async with asyncio.timeout(5):
        assert (await poll)["status"] == "queued"


async def test_a_poll_that_comes_while_the_process_stops_is_not_waited_for(
    api: Api, idle_worker: None
) -> None:
    job_id = await api.submit()
    api.bells.close()
    async with asyncio.timeout(5):
        assert (await api.job(job_id, 15))["status"] == "queued"
