"""Queues, workers, usage and outcomes, as operators see them."""

import asyncio
from typing import Any

from core.commands import Claim, Complete, Fail
from core.events import ErrorKind, JobError, Priority, Timings, Usage
from core.store import EventStore
from tests.api.conftest import Api
from tests.api.soon import soon
from tests.api.workers import Script
from tests.given import CHAT, a_job


async def at_the_end(api: Api, path: str, **parameters: Any) -> Any:
    """An answer of views that have everything."""
    end = (await api.store.feed(0, "0-0", 10_000))[-1].id
    answer = await api.http.get(path, params=parameters | {"min_position": end})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_queue_shows_depth_age_rates_and_percentiles(
    store: EventStore, api: Api, projector: None
) -> None:
    done = await a_job(store, queue="batch")
    await store.execute(done, Claim("w1"))
    await store.execute(done, Complete(1, CHAT, Timings(ran_ms=5), Usage(3, 4, 7)))
    await store.execute(await a_job(store, queue="batch"), Claim("w1"))
    await a_job(store, queue="batch", priority=Priority.HIGH)
    await a_job(store, queue="batch", priority=Priority.LOW, delay_ms=60_000)
    await asyncio.sleep(0.01)
    [queue] = (await at_the_end(api, "/v1/queues"))["queues"]
    assert queue["name"] == "batch"
    assert queue["waiting"] == 1
    assert queue["waiting_by_priority"] == {"high": 1, "normal": 0, "low": 0}
    assert (queue["running"], queue["scheduled"]) == (1, 1)
    assert 0.01 <= queue["oldest_waiting_seconds"] < 60
    assert queue["arrived_per_minute"] > queue["finished_per_minute"] > 0
    assert 0 < queue["wait_seconds"]["p50"] <= queue["wait_seconds"]["p99"] < 60
    assert queue["run_seconds"]["p50"] > 0
    alone = await at_the_end(api, "/v1/queues/batch")
    assert alone["waiting"] == 1
    assert (await at_the_end(api, "/v1/queues/never"))["waiting"] == 0


async def test_a_worker_shows_what_it_runs_and_has_done(
    store: EventStore, api: Api, script: Script, projector: None
) -> None:
    ended = await api.submit()
    script.answer()
    await api.job(ended, wait=10)
    running = await api.submit()
    await soon(lambda: len(script.calls) == 2)
    [worker] = (await at_the_end(api, "/v1/workers"))["workers"]
    assert worker["status"] == "started"
    assert worker["alive"]
    assert [job["id"] for job in worker["running"]] == [running]
    assert worker["done"] == {"completed": 1}
    assert worker["history"][0]["status"] == "started"
    assert worker["last_seen_at"] >= worker["started_at"]


async def test_usage_counts_requests_and_tokens_by_tenant_model_and_day(
    store: EventStore, api: Api, projector: None
) -> None:
    for tenant in ("default", "default", "team:a"):
        job = await a_job(store, tenant=tenant, model="llama3.2:1b")
        await store.execute(job, Claim("w1"))
        await store.execute(job, Complete(1, CHAT, Timings(ran_ms=5), Usage(3, 4, 7)))
    [ours, theirs] = (await at_the_end(api, "/v1/usage"))["usage"]
    assert (ours["tenant"], ours["model"], ours["requests"]) == ("default", "llama3.2:1b", 2)
    tokens = (ours["prompt_tokens"], ours["completion_tokens"], ours["total_tokens"])
    assert tokens == (6, 8, 14)
    assert (await at_the_end(api, "/v1/usage", tenant="team:a"))["usage"] == [theirs]
    assert (await at_the_end(api, "/v1/usage", model="other"))["usage"] == []
    answer = await at_the_end(api, "/v1/usage", **{"from": "2020-01-01", "to": "2020-01-31"})
    assert answer["usage"] == []


async def test_outcomes_count_errors_by_their_kind(
    store: EventStore, api: Api, projector: None
) -> None:
    job = await a_job(store)
    await store.execute(job, Claim("w1"))
    error = JobError(ErrorKind.BAD_REQUEST, "no")
    await store.execute(job, Fail(1, error, jitter=0.0))
    [outcome] = (await at_the_end(api, "/v1/outcomes"))["outcomes"]
    assert outcome == {
        "queue": "default",
        "model": "echo",
        "outcome": "failed",
        "error": "bad_request",
        "count": 1,
    }


async def test_a_span_of_usage_has_to_be_one(api: Api) -> None:
    for wrong in ({"from": "2026-02-01", "to": "2026-01-01"}, {"from": "soon"}, {"to": "1"}):
        answer = await api.http.get("/v1/usage", params=wrong)
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] == next(iter(wrong))
