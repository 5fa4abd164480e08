"""Requeue and cancel by filter: exactly what matches, a dry run that changes nothing, and pages."""

from typing import Any

import pytest

from core.commands import Cancel, Claim, Fail
from core.events import ErrorKind, JobError
from core.states import status_of
from core.store import EventStore
from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.api.test_views import at_the_end
from tests.given import a_job
from tests.projections.views import catch_up


async def failed(store: EventStore, **changes: Any) -> str:
    job = await a_job(store, **changes)
    await store.execute(job, Claim("w1"))
    await store.execute(job, Fail(1, JobError(ErrorKind.BAD_REQUEST, "no"), jitter=0.0))
    return job


async def carried_out(api: Api, what: str, **asked: Any) -> Any:
    await at_the_end(api, "/v1/jobs")
    answer = await api.http.post(f"/v1/jobs/{what}", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status(store: EventStore, job: str) -> str:
    return status_of((await store.require(job)).job)


async def test_jobs_are_requeued_by_filter_after_a_dry_run_that_changes_nothing(
    store: EventStore, api: Api, projector: None
) -> None:
    meant = {await failed(store, queue="batch") for _ in range(3)}
    others = [await failed(store), await a_job(store, queue="batch")]
    asked = {"status": "failed", "queue": "batch"}
    dry = await carried_out(api, "requeue", **asked, dry_run=True)
    assert (dry["matched"], dry["done"], set(dry["job_ids"])) == (3, 0, meant)
    assert [await status(store, job) for job in meant] == ["failed"] * 3
    done = await carried_out(api, "requeue", **asked)
    assert (done["matched"], done["done"], done["refused"]) == (3, 3, [])
    assert [await status(store, job) for job in meant] == ["queued"] * 3
    assert [await status(store, job) for job in others] == ["failed", "queued"]


async def test_all_that_has_not_ended_is_cancelled_page_by_page(
    store: EventStore, api: Api, projector: None
) -> None:
    jobs = [await a_job(store, delay_ms=index % 2 * 60_000) for index in range(7)]
    await failed(store)
    cursor, done = None, 0
    while True:
        page = await carried_out(api, "cancel", all=True, limit=3, cursor=cursor)
        done += page["done"]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert done == 7
    assert {await status(store, job) for job in jobs} == {"cancelled"}


async def test_a_job_that_moved_on_meanwhile_is_named_with_why(store: EventStore, api: Api) -> None:
    """The views are behind: no projector runs any more."""
    job = await a_job(store)
    await catch_up(store)
    await store.execute(job, Cancel("somebody"))
    answer = (await api.http.post("/v1/jobs/cancel", json={"all": True})).json()
    assert (answer["matched"], answer["done"]) == (1, 0)
    [refused] = answer["refused"]
    assert refused["job_id"] == job
    assert "is cancelled" in refused["why"]


@pytest.mark.parametrize(
    ("what", "asked", "param"),
    [
        ("cancel", {}, "all"),
        ("requeue", {"dry_run": True}, "all"),
        ("cancel", {"status": "failed"}, "status"),
        ("requeue", {"status": "running"}, "status"),
        ("requeue", {"status": "failed", "limit": 5_000}, "limit"),
        ("requeue", {"status": "failed", "cursor": "?"}, "cursor"),
        ("cancel", {"queues": "batch"}, "queues"),
    ],
)
async def test_what_is_not_meant_so_is_refused(
    api: Api, what: str, asked: dict[str, Any], param: str
) -> None:
    answer = await api.http.post(f"/v1/jobs/{what}", json=asked)
    assert error_of(answer, 422, "invalid_value")["param"] == param


async def test_what_has_begun_to_run_since_the_list_is_not_cancelled_with_what_waits(
    store: EventStore, api: Api
) -> None:
    waiting, running = await a_job(store), await a_job(store)
    await catch_up(store)
    await store.execute(running, Claim("w1"))
    answer = await api.http.post("/v1/jobs/cancel", json={"status": "queued"})
    done = answer.json()
    assert (done["matched"], done["done"]) == (2, 1)
    assert done["refused"] == [{"job_id": running, "why": "the job is running by now"}]
    assert await status(store, waiting) == "cancelled"
    assert await status(store, running) == "running"
    assert (await store.history(running))[-1].version == 2
