"""Cancel, requeue and result: done, or refused with the state that does not allow it."""

import pytest

from core.events import ErrorKind
from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.api.workers import Script


async def test_a_waiting_job_is_cancelled_at_once(api: Api, idle_worker: None) -> None:
    answer = await api.http.post(f"/v1/jobs/{await api.submit()}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert answer.json()["finished_at"] is not None


async def test_a_running_job_is_cancelled_once_its_worker_hears_of_it(
    api: Api, script: Script
) -> None:
    job_id = await api.submit()
    await script.called.wait()
    answer = await api.http.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    assert (await api.job(job_id, wait=10))["status"] == "cancelled"


async def test_a_completed_job_cannot_be_cancelled_or_requeued(api: Api, echo_worker: None) -> None:
    job_id = await api.submit()
    await api.job(job_id, wait=10)
    for way in ("cancel", "requeue"):
        error = error_of(await api.http.post(f"/v1/jobs/{job_id}/{way}"), 409, "job_state")
        assert error["message"] == f"cannot {way}: the job is completed"
        assert error["job_id"] == job_id


async def test_a_cancelled_job_cannot_be_cancelled_again(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    error = error_of(await api.http.post(f"/v1/jobs/{job_id}/cancel"), 409, "job_state")
    assert error["message"] == "cannot cancel: the job is cancelled"


async def test_a_cancelled_job_is_requeued(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    answer = await api.http.post(f"/v1/jobs/{job_id}/requeue")
    assert answer.status_code == 200
    job = answer.json()
    assert (job["status"], job["version"], job["finished_at"]) == ("queued", 3, None)


@pytest.mark.parametrize(
    ("fields", "status"), [({}, "queued"), ({"delay_seconds": 60}, "scheduled")]
)
async def test_a_job_that_has_not_ended_cannot_be_requeued_and_has_no_result(
    api: Api, idle_worker: None, fields: dict[str, float], status: str
) -> None:
    job_id = await api.submit(**fields)
    error = error_of(await api.http.post(f"/v1/jobs/{job_id}/requeue"), 409, "job_state")
    assert error["message"] == f"cannot requeue: the job is {status}"
    error = error_of(await api.http.get(f"/v1/jobs/{job_id}/result"), 409, "job_has_no_result")
    assert error["message"] == f"the job has not ended yet; it is {status}"
    assert error["job_id"] == job_id


async def test_a_cancelled_job_has_no_result(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    error = error_of(await api.http.get(f"/v1/jobs/{job_id}/result"), 409, "job_has_no_result")
    assert error["message"] == "the job has ended without a result; it is cancelled"


async def test_a_failed_job_has_no_result_and_says_why(api: Api, script: Script) -> None:
    job_id = await api.submit()
    script.fail(ErrorKind.BAD_REQUEST, "the model says no")
    await api.job(job_id, wait=10)
    error = error_of(await api.http.get(f"/v1/jobs/{job_id}/result"), 409, "job_has_no_result")
    assert error["message"] == (
        "the job has ended without a result; it is failed: the model says no"
    )
