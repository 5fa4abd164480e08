"""What clients hear of a job whose request and result were forgotten."""

import pytest

from core.store import EventStore
from projections.forgetting.forget import forget
from projections.forgetting.selection import Who
from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.forgetting.secrets import BY, WORD, ended_jobs, forget_tenant

SAME = ("id", "status", "created_at", "started_at", "finished_at", "usage", "tenant", "attempt")


async def test_its_result_is_gone_and_all_else_is_told_without_what_was_written(
    store: EventStore, api: Api, projector: None
) -> None:
    jobs = await ended_jobs(store, "acme")
    before = {how: await api.job(job) for how, job in jobs.items()}
    await forget_tenant(store)
    for how, job in jobs.items():
        after = await api.job(job)
        assert after["forgotten"] is True
        assert {name: after[name] for name in SAME} == {name: before[how][name] for name in SAME}
        events = (await api.http.get(f"/v1/jobs/{job}/events")).text
        assert WORD not in str(after) + events
        assert '"redacted"' in events
        error = error_of(await api.http.get(f"/v1/jobs/{job}/result"), 410, "job_forgotten")
        assert error["job_id"] == job
    failed = await api.job(jobs["failed"])
    assert (failed["error"]["kind"], failed["error"]["message"]) == ("rejected", "redacted")


async def test_it_cannot_be_requeued_alone_or_with_others(
    store: EventStore, api: Api, projector: None
) -> None:
    jobs = await ended_jobs(store, "acme")
    await forget_tenant(store)
    answer = await api.http.post(f"/v1/jobs/{jobs['failed']}/requeue")
    assert "its request was forgotten" in error_of(answer, 409, "job_state")["message"]
    answer = await api.http.post("/v1/jobs/requeue", json={"status": "failed"})
    assert answer.json()["done"] == 0
    assert "its request was forgotten" in answer.json()["refused"][0]["why"]


async def test_lists_say_so_and_have_nothing_of_it(
    store: EventStore, api: Api, projector: None
) -> None:
    job = (await ended_jobs(store, "acme"))["failed"]
    await forget_tenant(store)
    position = (await api.job(job))["position_in_log"]
    listed = (await api.http.get("/v1/jobs", params={"min_position": position})).json()["jobs"]
    assert listed
    assert all(one["forgotten"] for one in listed)
    assert all(one["metadata"] == {} for one in listed)


@pytest.mark.parametrize("stream", [False, True])
async def test_whoever_asks_again_under_the_same_key_hears_that_it_is_gone(
    store: EventStore, api: Api, echo_worker: None, projector: None, stream: bool
) -> None:
    asked = {"model": "echo", "messages": [{"role": "user", "content": WORD}], "stream": stream}
    once = {"Idempotency-Key": "once"}
    first = await api.http.post("/v1/chat/completions", json=asked, headers=once)
    assert first.status_code == 200
    job = first.headers["x-job-id"]
    await forget(store, Who(frozenset({job})), BY)
    again = await api.http.post("/v1/chat/completions", json=asked, headers=once)
    assert error_of(again, 410, "job_forgotten")["job_id"] == job
