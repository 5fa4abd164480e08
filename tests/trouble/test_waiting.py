"""What waits while Redis is away: nobody longer than agreed, and nothing is given up before its time."""

import asyncio
from typing import Any

import pytest

from core.batching import Batcher
from core.bells import Bells
from core.errors import StoreError, StoreUnavailable
from core.keys import ShardKeys
from core.redis import REPLY_TIMEOUT_SECONDS, connect
from core.states import Completed
from core.store import EventStore
from migrations.runner import migrate
from tests.api.errors import error_of
from tests.api.soon import soon
from tests.api.sse import streaming
from tests.api.workers import a_worker as an_idle_worker
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import a_job, new_id, submitted
from tests.proxy import proxy_to
from tests.servers import RedisServer
from tests.trouble.conftest import Site


async def test_many_submissions_wait_for_a_redis_that_hangs_no_longer_than_one(site: Site) -> None:
    """All have to know which models are served: they ask together, not one after another."""
    await an_idle_worker(site.store)
    await site.api.submit()
    await asyncio.sleep(1.1)  # What is known of the workers is too old by now.
    site.proxy.stall()
    async with asyncio.timeout(2 * REPLY_TIMEOUT_SECONDS):
        answers = await asyncio.gather(*(site.api.post() for _ in range(20)))
    for answer in answers:
        error_of(answer, 503, "store_unavailable")
    site.proxy.resume()
    await site.api.submit()


async def test_a_call_that_came_later_is_not_given_up_with_the_one_before_it() -> None:
    """Else an outcome that was ready at the end of an outage would be thrown away with an older one."""
    is_back = asyncio.Event()

    async def call(items: list[str]) -> list[str]:
        if not is_back.is_set():
            raise StoreUnavailable("Redis is away")
        return [item.upper() for item in items]

    batcher: Batcher[str, str] = Batcher(call, len, patience_seconds=1.0)
    on_their_way = [batcher.send("first")]
    await asyncio.sleep(0.05)
    on_their_way.append(batcher.send("second"))  # More batches are not sent at once.
    await asyncio.sleep(0.25)
    early = batcher.send("early")
    await asyncio.sleep(0.4)
    late = batcher.send("late")  # It waits with the early one, and goes with it.
    for future in (*on_their_way, early):
        with pytest.raises(StoreUnavailable):
            await future
    is_back.set()
    assert await late == "LATE"


async def test_bells_on_a_connection_that_is_accepted_and_never_answered_try_another(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.bells.REPLY_TIMEOUT_SECONDS", 0.5)
    async with proxy_to(server.port) as proxy:
        client = connect(proxy.url)
        bells = Bells(client)
        proxy.stall()
        listening = asyncio.create_task(bells.run())
        await soon(lambda: proxy.connections == 1)
        proxy.forget()
        proxy.resume()
        await soon(lambda: len(bells._in_force) == 1)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.aclose()


async def test_a_stream_goes_on_once_a_store_without_functions_is_migrated(site: Site) -> None:
    job_id = await a_job(site.store)
    async with streaming(site.api, f"/v1/jobs/{job_id}/events") as events:
        assert await events.take(1) == [("1", "submitted")]
        await site.client.execute_command("FUNCTION", "FLUSH")
        await site.client.publish(f"respool:bell:{job_id}", "")  # It looks, and finds none.
        await soon(lambda: site.api.tail.trouble is not None)
        await migrate(site.client)
        assert (await site.api.http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 202
        assert await events.rest() == [("2", "cancelled")]


async def test_a_worker_that_finds_redis_away_when_it_starts_waits_for_it(site: Site) -> None:
    """Its upstream may have taken minutes to start; Redis was there before."""
    await site.proxy.refuse()

    async def comes_back() -> None:
        await asyncio.sleep(0.3)  # It has found nobody meanwhile.
        await site.proxy.open()

    coming_back = asyncio.create_task(comes_back())
    async with a_worker(site.proxy, Scripted(), lease_seconds=5):
        assert coming_back.done()
        job_id = await a_job(site.store)
        assert isinstance(await ended(site.store, job_id), Completed)


async def test_a_slow_redis_costs_no_lease(site: Site) -> None:
    """Replies of 1.5 s each; the job lasts longer than its lease."""
    site.proxy.delay_seconds = 0.75
    upstream = Scripted(is_open=False)
    async with a_worker(site.proxy, upstream, lease_seconds=9):
        answer = await site.api.post()
        assert answer.status_code == 202
        job_id = answer.json()["id"]
        await upstream.calls.get()
        await asyncio.sleep(10)  # What is tested is that time.
        upstream.gate.set()
        assert isinstance(await ended(site.store, job_id), Completed)
        site.proxy.delay_seconds = 0.0
    assert await types_of(site.store, job_id) == ["submitted", "claimed", "completed"]


async def test_what_goes_wrong_with_one_record_inside_redis_is_said_in_redis_s_words(
    store: EventStore,
) -> None:
    client: Any = store.client
    job_id = new_id()
    await client.set(ShardKeys(0).head(job_id), "no hash")
    with pytest.raises(StoreError, match=f"{job_id} could not be written: WRONGTYPE") as raised:
        await store.submit(job_id, submitted())
    assert type(raised.value) is StoreError
    assert "b'" not in str(raised.value)
    await a_job(store)
