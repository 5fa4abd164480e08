"""Views of several shards answer as one: sums, places, and positions of all of them."""

from collections import Counter
from random import Random
from typing import Any

from core.commands import Claim
from core.store import EventStore
from tests.api.conftest import Api, OpenApi, projecting
from tests.api.errors import error_of
from tests.api.workers import a_worker
from tests.conftest import OpenStore
from tests.given import a_job
from tests.projections.views import catch_up, lives

SHARDS = 3


async def answered(api: Api, path: str, **parameters: Any) -> Any:
    answer = await api.http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_whoever_asks_for_its_position_sees_its_own_job_whatever_its_shard(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    store = await open_store(shards=SHARDS)
    await a_worker(store)
    api = await open_api(store)
    async with projecting(store):
        for _ in range(20):
            job_id = await api.submit()
            since = (await api.job(job_id))["position_in_log"]
            page = await answered(api, "/v1/jobs", min_position=since)
            assert job_id in {job["id"] for job in page["jobs"]}
            assert len(page["position"].split(",")) == SHARDS
            again = await answered(api, "/v1/jobs", min_position=page["position"])
            assert job_id in {job["id"] for job in again["jobs"]}


async def test_a_position_of_another_number_of_shards_is_refused(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    api = await open_api(await open_store(shards=SHARDS))
    answer = await api.http.get("/v1/jobs", params={"min_position": "1-1,1-1"})
    error = error_of(answer, 422, "invalid_value")
    assert f"takes one entry or {SHARDS}" in error["message"]


async def test_queues_and_outcomes_are_those_of_all_jobs_of_all_shards(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    store = await open_store(shards=SHARDS)
    await lives(store, 120, Random(12))
    await catch_up(store, 500)
    api = await open_api(store)
    jobs = (await answered(api, "/v1/jobs", limit=200))["jobs"]
    status_of = Counter((job["queue"], job["status"]) for job in jobs)
    queues = (await answered(api, "/v1/queues"))["queues"]
    assert {queue["name"] for queue in queues} == {"default", "batch"}
    for queue in queues:
        shown = (queue["waiting"], queue["running"], queue["scheduled"])
        meant = ("queued", "running", "scheduled")
        assert shown == tuple(status_of[queue["name"], status] for status in meant)
        assert queue["arrived_per_minute"] > 0
    usage = (await answered(api, "/v1/usage"))["usage"]
    assert sum(one["requests"] for one in usage) >= len(jobs)
    ended = (await answered(api, "/v1/outcomes"))["outcomes"]
    completed = sum(one["count"] for one in ended if one["outcome"] == "completed")
    assert completed == sum(job["status"] == "completed" for job in jobs)


async def test_a_worker_has_its_jobs_of_all_shards(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    store = await open_store(shards=SHARDS)
    await a_worker(store, "w1")
    running = {await _claimed(store, shard) for shard in range(SHARDS)}
    await catch_up(store)
    api = await open_api(store)
    [worker] = (await answered(api, "/v1/workers"))["workers"]
    assert {job["id"] for job in worker["running"]} == running


async def _claimed(store: EventStore, shard: int) -> str:
    job = await a_job(store, shard)
    await store.execute(job, Claim("w1"))
    return job
