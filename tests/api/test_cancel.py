"""Cancelling, whatever the job is doing; and that only a cancel does it, not a reader who leaves."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from consumers.claims import Claims
from consumers.upstream.echo import EchoUpstream
from core.commands import Claim
from core.errors import Conflict
from core.events import ErrorKind
from core.job import decide
from core.log import tag_of
from core.store import Claim as Proof
from core.store import EventStore
from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.api.soon import listeners, soon
from tests.api.sse import streaming
from tests.api.workers import Script, working
from tests.servers import RedisServer
from tests.store.audit import audit
from tests.upstream.behaving import HELLO, behaving, requests
from tests.upstream.fake import falls_silent

ENDINGS = {"completed", "failed", "cancelled", "expired"}


async def cancel(api: Api, job_id: str) -> str:
    """Ask for a job to be cancelled; the status that the answer shows."""
    answer = await api.http.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["status"])


async def types_of(store: EventStore, job_id: str) -> list[str]:
    return [tag_of(entry.event) for entry in await store.history(job_id)]


async def test_a_delayed_job_is_cancelled_at_once_and_its_timers_are_gone(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    job_id = await api.submit(delay_seconds=60, deadline_seconds=120)
    assert await cancel(api, job_id) == "cancelled"
    await audit(store)


async def test_a_job_that_waits_for_its_next_attempt_is_cancelled_at_once(
    api: Api, store: EventStore, script: Script
) -> None:
    job_id = await api.submit()
    await script.called.wait()
    script.fail(ErrorKind.OVERLOAD, "busy", retry_after_ms=600_000)
    await soon(lambda: is_status(api, job_id, "scheduled"))
    assert await cancel(api, job_id) == "cancelled"
    await audit(store)


async def is_status(api: Api, job_id: str, status: str) -> bool:
    return bool((await api.job(job_id))["status"] == status)


async def test_a_running_job_may_be_cancelled_twice_and_is_cancelled_once(
    api: Api, store: EventStore, script: Script
) -> None:
    job_id = await api.submit()
    await script.called.wait()
    for _ in range(2):
        answer = await api.http.post(f"/v1/jobs/{job_id}/cancel")
        assert answer.status_code in {202, 409}, answer.text
    assert (await api.job(job_id, wait=10))["status"] == "cancelled"
    assert (await types_of(store, job_id))[2:] == ["cancel_requested", "cancelled"]
    await audit(store)


async def test_a_failed_and_an_expired_job_cannot_be_cancelled(api: Api, script: Script) -> None:
    failed = await api.submit(max_attempts=1)
    script.fail(ErrorKind.BAD_REQUEST, "no")
    expired = await api.submit(delay_seconds=60, deadline_seconds=0.05)
    for job_id, status in ((failed, "failed"), (expired, "expired")):
        assert (await api.job(job_id, wait=10))["status"] == status
        error = error_of(await api.http.post(f"/v1/jobs/{job_id}/cancel"), 409, "job_state")
        assert error["message"] == f"cannot cancel: the job is {status}"


async def test_a_job_that_a_worker_has_taken_and_not_yet_claimed_is_cancelled(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    job_id = await api.submit()
    [taken] = await Claims(store, "w1", (), lambda: {"echo"}).take(1)
    assert await cancel(api, job_id) == "cancelled"
    job = taken.head.job
    with pytest.raises(Conflict):
        await store.append(job_id, job, decide(job, Claim("w1")), Proof("w1", taken.entry))
    assert await types_of(store, job_id) == ["submitted", "cancelled"]
    await audit(store)


async def test_jobs_that_are_cancelled_as_they_are_claimed_end_once_and_soon(
    api: Api, store: EventStore, server: RedisServer
) -> None:
    upstream = EchoUpstream("echo://?latency_ms=60000")
    async with working(store, server.url, upstream):
        job_ids = []
        for n in range(60):
            job_ids.append(await api.submit())
            await asyncio.sleep(n % 6 / 1_000)  # Before, in the middle of, and after the claim.
            await cancel(api, job_ids[-1])
        jobs = await asyncio.gather(*(api.job(job_id, wait=10) for job_id in job_ids))
    assert {job["status"] for job in jobs} == {"cancelled"}
    for job_id in job_ids:
        told = Counter(await types_of(store, job_id))
        assert sum(told[ending] for ending in ENDINGS) == 1
    await audit(store)


async def test_cancelling_closes_the_connection_to_the_upstream_and_no_other(
    api: Api, store: EventStore, server: RedisServer
) -> None:
    async with (
        behaving(falls_silent(HELLO[:1])) as (upstream, fake),
        working(store, server.url, upstream),
    ):
        stays, goes = await api.submit(), await api.submit()
        async with AsyncExitStack() as stack:
            for job_id in (stays, goes):
                path = f"/v1/jobs/{job_id}/output"
                await (await stack.enter_async_context(streaming(api, path))).take(1)
        await cancel(api, goes)
        assert (await api.job(goes, wait=10))["status"] == "cancelled"
        await soon(lambda: sum(asked.client_left.is_set() for asked in requests(fake)) == 1)
        assert (await api.job(stays))["status"] == "running"


@pytest.mark.parametrize("way", ["events", "output"])
async def test_a_reader_who_leaves_does_not_cancel_what_was_submitted(
    api: Api, script: Script, way: str
) -> None:
    job_id = await api.submit()
    script.say("something")
    async with streaming(api, f"/v1/jobs/{job_id}/{way}") as stream:
        await stream.take(1)
    await soon(lambda: listeners(api, job_id) == 0)
    script.answer()
    job = await api.job(job_id, wait=10)
    assert (job["status"], job["version"]) == ("completed", 3)


async def test_a_poll_whose_client_leaves_does_not_cancel_the_job(api: Api, script: Script) -> None:
    job_id = await api.submit()
    await script.called.wait()
    poll = asyncio.create_task(api.job(job_id, wait=60))
    await soon(lambda: listeners(api, job_id) == 1)
    poll.cancel()
    await soon(lambda: listeners(api, job_id) == 0)
    script.answer()
    job = await api.job(job_id, wait=10)
    assert (job["status"], job["version"]) == ("completed", 3)
