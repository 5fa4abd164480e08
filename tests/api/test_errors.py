"""What is not there, or cannot be asked, is an error that says so."""

from core.store import EventStore
from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.api.workers import a_worker
from tests.given import new_id

WAYS_TO_A_JOB = [
    ("GET", ""),
    ("GET", "/result"),
    ("GET", "/events"),
    ("GET", "/output"),
    ("POST", "/cancel"),
    ("POST", "/requeue"),
]


async def test_an_unknown_model_is_told_which_are_served(api: Api, store: EventStore) -> None:
    await a_worker(store, "one", "gemma", "llama")
    await a_worker(store, "two", "llama")
    error = error_of(await api.post(model="gpt"), 404, "model_not_found")
    assert error["param"] == "model"
    assert error["message"] == "no worker serves the model 'gpt'; served are: gemma, llama"


async def test_without_any_worker_no_model_is_served(api: Api) -> None:
    error = error_of(await api.post(), 404, "model_not_found")
    assert error["message"] == "no worker serves the model 'echo'; served are: none yet"


async def test_an_unknown_job_is_not_found(api: Api) -> None:
    for method, way in WAYS_TO_A_JOB:
        job_id = new_id()
        error = error_of(
            await api.http.request(method, f"/v1/jobs/{job_id}{way}"), 404, "job_not_found"
        )
        assert error["message"] == f"there is no job {job_id}"
        assert error["job_id"] == job_id


async def test_a_job_of_a_shard_that_there_is_not_is_not_found(api: Api) -> None:
    for method, way in WAYS_TO_A_JOB:
        answer = await api.http.request(method, f"/v1/jobs/{new_id(shard=900)}{way}")
        error_of(answer, 404, "job_not_found")


async def test_what_is_no_job_id_is_not_found(api: Api) -> None:
    for job_id in ["7", "x" * 19, "%00", "%F0%9F%90%98", "a" * 5_000, "%7Bx%7D"]:
        error_of(await api.http.get(f"/v1/jobs/{job_id}"), 404, "job_not_found")


async def test_an_unknown_path_is_not_found(api: Api) -> None:
    for path in ["/", "/v1", "/v1/job", "/v1/jobs/a/b/c", "/favicon.ico"]:
        error = error_of(await api.http.get(path), 404, "not_found")
        assert error["message"] == f"there is no GET {path}; /docs lists what there is"


async def test_a_wrong_method_is_told_which_are_allowed(api: Api) -> None:
    for method, path, allowed in [
        ("DELETE", "/v1/jobs", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("PUT", "/v1/jobs/7", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/v1/jobs/7/cancel", {"POST", "OPTIONS"}),
        ("POST", "/readyz", {"GET", "HEAD", "OPTIONS"}),
    ]:
        answer = await api.http.request(method, path)
        error_of(answer, 405, "method_not_allowed")
        assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed


async def test_a_bad_wait_is_named(api: Api, idle_worker: None) -> None:
    for wait in ["soon", "-1", "1e9", "nan", "inf", "", "1,2"]:
        job_id = await api.submit()
        error = error_of(await api.http.get(f"/v1/jobs/{job_id}?wait={wait}"), 422, "invalid_value")
        assert error["param"] == "wait"


async def test_a_bad_last_event_id_of_events_is_named(api: Api, idle_worker: None) -> None:
    for version in ["x", "-1", "1-1", "1.5", "1" * 10, "1" * 65]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": version}
        answer = await api.http.get(f"/v1/jobs/{await api.submit()}/events", headers=headers)
        error = error_of(answer, 422, "invalid_value")
        assert error["param"] == "Last-Event-ID"


async def test_a_bad_last_event_id_of_output_is_named(api: Api, idle_worker: None) -> None:
    for chunk in ["x", "1", "1-", "-1-1", "1-1-1", "1" * 10 + "-1", "1" * 65]:
        headers = {"Last-Event-ID": chunk}
        answer = await api.http.get(f"/v1/jobs/{await api.submit()}/output", headers=headers)
        error = error_of(answer, 422, "invalid_value")
        assert error["param"] == "Last-Event-ID"


async def test_a_bad_idempotency_key_is_named(api: Api, idle_worker: None) -> None:
    for key in ["", "k" * 256]:
        error = error_of(await api.post({"Idempotency-Key": key}), 422, "invalid_value")
        assert error["param"] == "Idempotency-Key"
