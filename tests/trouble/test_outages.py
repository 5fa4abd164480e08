"""Redis away, cut off, stalled or slow: what the API says, what a worker does, and that both recover."""

import asyncio
from typing import Any

import httpx
import pytest

from core.log import tag_of
from core.states import Completed
from tests.api.errors import error_of
from tests.api.soon import soon
from tests.api.sse import streaming
from tests.api.workers import a_worker as an_idle_worker
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import a_job
from tests.proxy import Proxy
from tests.store.audit import audit
from tests.trouble.conftest import ANSWER_SECONDS_MAX, Site, every_call, is_away

AWAY = ("refused", "stalled")


async def goes_away(proxy: Proxy, how: str) -> None:
    if how == "refused":
        await proxy.refuse()
    else:
        proxy.stall()


async def comes_back(proxy: Proxy) -> None:
    proxy.resume()
    await proxy.open()


@pytest.mark.parametrize("how", AWAY)
async def test_while_redis_is_away_every_call_is_503_and_then_works_again(
    site: Site, how: str
) -> None:
    await an_idle_worker(site.store)
    job_id = await a_job(site.store)
    await site.api.job(job_id)
    await goes_away(site.proxy, how)
    for answer in await every_call(site, job_id):
        is_away(answer)
    assert (await site.api.http.get("/healthz")).status_code == 200
    assert (await site.api.http.get("/readyz")).status_code == 503
    await comes_back(site.proxy)
    assert (await site.api.job(job_id))["status"] in {"queued", "cancelled"}
    await site.api.submit()
    await audit(site.store)


async def test_more_calls_than_there_are_connections_get_their_answer_while_redis_hangs(
    site: Site,
) -> None:
    job_id = await a_job(site.store)
    site.proxy.stall()
    async with asyncio.timeout(3 * ANSWER_SECONDS_MAX):
        calls = (site.api.http.get(f"/v1/jobs/{job_id}") for _ in range(90))
        asking = asyncio.gather(*calls, return_exceptions=True)
        assert (await site.api.http.get("/healthz")).status_code == 200
        answers = await asking
    assert {answer.status_code for answer in answers if isinstance(answer, httpx.Response)} == {503}
    await comes_back(site.proxy)
    assert (await site.api.job(job_id))["status"] == "queued"


async def test_a_submission_that_was_answered_503_and_is_sent_again_is_one_job(site: Site) -> None:
    await an_idle_worker(site.store)
    await site.api.http.get("/readyz")  # The workers are known, so that only the append hangs.
    key = {"Idempotency-Key": "mine"}
    site.proxy.stall(replies_only=True)
    error_of(await site.api.post(key), 503, "store_unavailable")
    await comes_back(site.proxy)
    again = await site.api.post(key)
    assert again.status_code == 200
    submitted = [entry for entry in await site.store.feed(0, "0-0") if ":" not in entry.subject]
    assert [(entry.subject, tag_of(entry.event)) for entry in submitted] == [
        (again.json()["id"], "submitted")
    ]


async def test_a_reset_in_mid_reply_is_not_noticed_by_who_submits(site: Site) -> None:
    await an_idle_worker(site.store)
    await site.api.http.get("/readyz")
    site.proxy.cut_in_reply(after_bytes=2)
    answer = await site.api.post()
    assert answer.status_code in {202, 503}  # 503 if it met another call than the append.
    accepted = [await site.api.submit()] + ([answer.json()["id"]] if answer.is_success else [])
    submitted = [entry.subject for entry in await site.store.feed(0, "0-0")]
    assert all(submitted.count(job_id) == 1 for job_id in accepted)
    await audit(site.store)


@pytest.mark.parametrize("how", AWAY)
async def test_streams_and_polls_go_on_after_an_outage(site: Site, how: str) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream):
        job_id = await a_job(site.store)
        await upstream.calls.get()
        async with streaming(site.api, f"/v1/jobs/{job_id}/events") as events:
            await events.take(2)
            await goes_away(site.proxy, how)
            upstream.gate.set()
            await ended(site.store, job_id)
            await comes_back(site.proxy)
            assert await events.rest() == [("3", "completed")]


async def test_the_doorbells_come_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the reconnect a bell rings for what happens then, long before any poll."""
    monkeypatch.setattr("consumers.worker.POLL_SECONDS", 600.0)
    async with a_worker(site.proxy, Scripted(), lease_seconds=5):
        await site.proxy.refuse()
        await site.proxy.open()
        await ended(site.store, await a_job(site.store))
        await asyncio.sleep(0.5)  # It waits for a bell by now.
        await ended(site.store, await a_job(site.store))


@pytest.mark.parametrize("how", AWAY)
async def test_a_worker_keeps_its_call_through_a_short_outage_and_completes_once(
    site: Site, how: str
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.proxy, upstream, lease_seconds=10) as (worker, _):
        job_id = await a_job(site.store)
        await upstream.calls.get()
        await goes_away(site.proxy, how)
        upstream.gate.set()  # The answer is there while Redis is not.
        await soon(lambda: upstream.running == 0)
        assert len(worker.leases) == 1
        await comes_back(site.proxy)
        assert isinstance(await ended(site.store, job_id), Completed)
    assert await types_of(site.store, job_id) == ["submitted", "claimed", "completed"]
    assert upstream.closed == 0
    await audit(site.store)


async def test_after_an_outage_longer_than_the_lease_live_workers_keep_their_jobs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.recovery.OUTAGE_MS_MIN", 1_200)
    upstreams = [Scripted(is_open=False), Scripted(is_open=False)]
    async with (
        a_worker(site.proxy, upstreams[0], lease_seconds=1.5, concurrency=1),
        a_worker(site.proxy, upstreams[1], lease_seconds=1.5, concurrency=1),
    ):
        jobs = [await a_job(site.store) for _ in range(2)]
        for upstream in upstreams:
            await upstream.calls.get()
        await asyncio.sleep(1.1)  # Both have looked, so that Redis knows when somebody last did.
        await site.proxy.refuse()
        await asyncio.sleep(3)  # What is tested is that time.
        await site.proxy.open()
        await asyncio.sleep(1)
        for upstream in upstreams:
            upstream.gate.set()
        for job_id in jobs:
            assert isinstance(await ended(site.store, job_id), Completed)
    for job_id in jobs:
        assert await types_of(site.store, job_id) == ["submitted", "claimed", "completed"]
    log = [tag_of(entry.event) for entry in await site.store.feed(0, "0-0")]
    assert "worker_lost" not in log
    await audit(site.store)


async def test_a_slow_redis_slows_everything_and_breaks_nothing(site: Site) -> None:
    site.proxy.delay_seconds = 0.15
    await an_idle_worker(site.store)
    async with a_worker(site.proxy, Scripted(), lease_seconds=10):
        async with asyncio.timeout(60):
            job_ids = await asyncio.gather(*(site.api.submit() for _ in range(5)))
            for job_id in job_ids:
                await ended(site.store, job_id)
        site.proxy.delay_seconds = 0.0
    for job_id in job_ids:
        assert await types_of(site.store, job_id) == ["submitted", "claimed", "completed"]


async def test_a_call_that_is_given_up_in_mid_reply_leaves_no_connection_out_of_step(
    site: Site,
) -> None:
    behind: Any = site.api.store.client
    await site.client.mset({f"key-{n}": n for n in range(50)})
    site.proxy.delay_seconds = 0.02
    for n in range(50):
        asking = asyncio.create_task(behind.get(f"key-{n}"))
        await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    site.proxy.delay_seconds = 0.0
    answers = await asyncio.gather(*(behind.get(f"key-{n}") for n in range(50)))
    assert [int(answer) for answer in answers] == list(range(50))
