"""An Idempotency-Key names a submission: however often it is sent, it is one job."""

import asyncio
from typing import Any

import pytest

from core.store import EventStore
from tests.api.conftest import Api, OpenApi
from tests.api.errors import error_of
from tests.api.workers import a_worker
from tests.conftest import OpenStore

pytestmark = pytest.mark.usefixtures("idle_worker")

OTHERS: list[dict[str, Any]] = [
    {"model": "other"},
    {"queue": "other"},
    {"priority": "high"},
    {"kind": "completions", "request": {"prompt": "hello"}},
    {"request": {"messages": [{"role": "user", "content": "other"}]}},
    {"delay_seconds": 60},
    {"deadline_seconds": 60},
    {"timeout_seconds": 60},
    {"max_attempts": 1},
    {"metadata": {"an": "other"}},
]


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


async def test_the_same_request_again_is_the_same_job(api: Api) -> None:
    first, again = await api.post(key("one")), await api.post(key("one"))
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]


async def test_the_same_job_is_shown_as_it_is_by_then(api: Api) -> None:
    job_id = (await api.post(key("one"))).json()["id"]
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    again = (await api.post(key("one"))).json()
    assert (again["id"], again["status"]) == (job_id, "cancelled")


async def test_another_request_under_the_same_key_is_refused_and_told_the_job(
    api: Api, store: EventStore
) -> None:
    await a_worker(store, "other", "other")
    job_id = (await api.post(key("one"))).json()["id"]
    for other in OTHERS:
        error = error_of(await api.post(key("one"), **other), 422, "idempotency_key_reused")
        assert (error["param"], error["job_id"]) == ("Idempotency-Key", job_id)


async def test_other_keys_are_other_jobs(api: Api) -> None:
    keys = ("one", "One", "one ones", "k" * 255, "a:b", "{0}")
    jobs = [(await api.post(key(text))).json()["id"] for text in keys]
    jobs.append(await api.submit())
    assert len(set(jobs)) == len(keys) + 1


@pytest.mark.parametrize("shards", [1, 4])
async def test_submitted_many_times_at_once_it_is_one_job(
    open_store: OpenStore, open_api: OpenApi, shards: int
) -> None:
    store = await open_store(shards=shards)
    apis = [await open_api(store) for _ in range(2)]
    answers = await asyncio.gather(*(api.post(key("one")) for api in apis * 10))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [202]


async def test_the_same_request_again_is_known_although_the_queue_is_full(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    api = await open_api(await open_store(waiting_max=1))
    job_id = (await api.post(key("one"))).json()["id"]
    error_of(await api.post(key("two")), 429, "queue_full")
    again = await api.post(key("one"))
    assert (again.status_code, again.json()["id"]) == (200, job_id)


async def test_a_refused_submission_does_not_use_its_key(api: Api) -> None:
    error_of(await api.post(key("one"), model="nobody's"), 404, "model_not_found")
    error_of(await api.post(key("one"), request={}), 422, "invalid_value")
    assert (await api.post(key("one"))).status_code == 202
