"""Submitting: a 202 means that the job is in the log, as it was sent."""

import asyncio
import re
from datetime import datetime

import pytest

from core.store import EventStore
from tests.api.conftest import Api, OpenApi
from tests.api.errors import error_of
from tests.api.workers import Script, a_worker
from tests.conftest import OpenStore

FIELDS = {
    *("id", "status", "version", "model", "queue", "kind", "priority", "tenant", "attempt"),
    *("max_attempts", "position", "eta_seconds", "created_at", "started_at", "finished_at"),
    *("due_at", "error", "usage", "metadata", "worker", "position_in_log"),
}


async def test_a_job_is_accepted_and_says_where_it_is(api: Api, idle_worker: None) -> None:
    answer = await api.post()
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert await api.job(job["id"]) == job


async def test_a_job_has_every_field_of_the_contract(api: Api, idle_worker: None) -> None:
    job = (await api.post()).json()
    assert set(job) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job.pop("created_at"))
    assert re.fullmatch(r"\d+-\d+", job.pop("position_in_log"))
    assert re.fullmatch(r"[0-9a-z]{19}", job.pop("id"))
    assert job == {
        "status": "queued",
        "version": 1,
        "model": "echo",
        "queue": "default",
        "kind": "chat",
        "priority": "normal",
        "tenant": "default",
        "attempt": 0,
        "max_attempts": 3,
        "position": None,
        "eta_seconds": None,
        "started_at": None,
        "finished_at": None,
        "due_at": None,
        "error": None,
        "usage": None,
        "metadata": {},
        "worker": None,
    }


async def test_a_job_is_what_was_asked_for(api: Api, idle_worker: None) -> None:
    asked = {
        "queue": "night",
        "kind": "embeddings",
        "priority": "low",
        "max_attempts": 7,
        "metadata": {"user": "zoë", "run": "1"},
    }
    job = (await api.post(request={"input": "hello"}, **asked)).json()
    assert {name: job[name] for name in asked} == asked


async def test_defaults_are_the_settings(
    open_api: OpenApi, store: EventStore, idle_worker: None
) -> None:
    api = await open_api(store, max_attempts=9, job_timeout_seconds=7)
    job_id = await api.submit()
    submitted = (await api.http.get(f"/v1/jobs/{job_id}/events")).json()["events"][0]
    assert (submitted["attempts_max"], submitted["timeout_ms"]) == (9, 7_000)


async def test_durations_are_kept_to_the_millisecond(api: Api, idle_worker: None) -> None:
    job_id = await api.submit(delay_seconds=60.25, deadline_seconds=0.0001, timeout_seconds=1.5)
    submitted = (await api.http.get(f"/v1/jobs/{job_id}/events")).json()["events"][0]
    assert submitted["delay_ms"] == 60_250
    assert submitted["deadline_ms"] == 1
    assert submitted["timeout_ms"] == 1_500


async def test_a_delayed_job_is_scheduled_and_says_when_it_is_due(
    api: Api, idle_worker: None
) -> None:
    job = (await api.post(delay_seconds=90)).json()
    assert job["status"] == "scheduled"
    created, due = (datetime.fromisoformat(job[name]) for name in ("created_at", "due_at"))
    assert (due - created).total_seconds() == 90


async def test_a_finished_job_says_how_it_went(api: Api, echo_worker: None) -> None:
    job = await api.job(await api.submit(), wait=10)
    assert (job["status"], job["version"], job["attempt"]) == ("completed", 3, 1)
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert job["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert (job["error"], job["worker"]) == (None, None)


async def test_a_running_job_says_who_runs_it(api: Api, script: Script) -> None:
    job_id = await api.submit()
    await script.called.wait()
    job = await api.job(job_id)
    assert (job["status"], job["worker"], job["attempt"]) == ("running", "worker-1", 1)
    assert job["started_at"] is not None


async def test_a_model_whose_workers_are_silent_is_queued_with_a_note(
    api: Api, store: EventStore
) -> None:
    await a_worker(store, is_alive=False)
    answer = await api.post()
    assert answer.status_code == 202
    note = "no worker that serves 'echo' is alive just now; the job waits for one"
    assert answer.json()["note"] == note


async def test_a_worker_that_just_came_is_known_at_once(api: Api, store: EventStore) -> None:
    error_of(await api.post(), 404, "model_not_found")
    await a_worker(store)
    assert (await api.post()).status_code == 202


async def test_waiting_for_a_job_that_ends_in_time_is_200(api: Api, echo_worker: None) -> None:
    answer = await api.post({"Prefer": "respond-async, wait=10"})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"


async def test_waiting_for_a_job_that_does_not_end_is_202(api: Api, idle_worker: None) -> None:
    answer = await api.post({"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


@pytest.mark.parametrize("prefer", ["wait=0", "wait=soon", "respond-async", "await=9", ""])
async def test_without_a_wait_that_we_know_the_answer_comes_at_once(
    api: Api, idle_worker: None, prefer: str
) -> None:
    async with asyncio.timeout(5):
        assert (await api.post({"Prefer": prefer})).status_code == 202


async def test_a_full_queue_takes_no_more(open_store: OpenStore, open_api: OpenApi) -> None:
    store = await open_store(waiting_max=2)
    await a_worker(store)
    api = await open_api(store)
    await api.submit()
    await api.submit()
    answer = await api.post()
    error = error_of(answer, 429, "queue_full")
    assert error["message"] == "queue 'default' is full: 2 jobs wait, and it takes 2"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert (await api.post(queue="other")).status_code == 202


async def test_a_queue_has_room_again_once_a_job_is_cancelled(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    store = await open_store(waiting_max=1)
    await a_worker(store)
    api = await open_api(store)
    job_id = await api.submit()
    error_of(await api.post(), 429, "queue_full")
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    assert (await api.post()).status_code == 202


async def test_jobs_submitted_together_are_all_different(api: Api, idle_worker: None) -> None:
    jobs = await asyncio.gather(*(api.submit() for _ in range(50)))
    assert len(set(jobs)) == 50


async def test_the_type_of_the_content_does_not_matter(api: Api, idle_worker: None) -> None:
    body = b'{"model":"echo","request":{"messages":[1]}}'
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "nonsense"):
        headers = {"Content-Type": content_type}
        answer = await api.http.post("/v1/jobs", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
