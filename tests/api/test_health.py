"""`/healthz`, `/readyz` and the description of the API."""

import pytest

from core.store import EventStore
from tests.api.conftest import Api, OpenApi
from tests.api.workers import a_worker

WAYS = ("/result", "/events", "/output", "/cancel", "/requeue")


async def test_healthz_says_that_the_process_answers(api: Api) -> None:
    answer = await api.http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readyz_is_not_ready_without_a_worker(api: Api) -> None:
    answer = await api.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "no worker is alive"})


async def test_readyz_is_not_ready_with_a_worker_that_fell_silent(
    api: Api, store: EventStore
) -> None:
    await a_worker(store, is_alive=False)
    answer = await api.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "no worker is alive"})


async def test_readyz_is_ready_with_a_worker(api: Api, idle_worker: None) -> None:
    answer = await api.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_readyz_waits_for_the_rest_of_the_process(
    open_api: OpenApi, store: EventStore, idle_worker: None
) -> None:
    api = await open_api(store, is_ready=lambda: False)
    answer = await api.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "still starting"})


@pytest.mark.parametrize("path", ["/openapi.json", "/docs/openapi.json"])
async def test_the_api_describes_what_a_submission_takes(api: Api, path: str) -> None:
    document = (await api.http.get(path)).json()
    submit = document["paths"]["/v1/jobs"]["post"]
    schema = submit["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["model", "request"]
    assert schema["properties"]["request"] == {"type": "object"}
    assert schema["properties"]["kind"]["enum"] == ["chat", "completions", "embeddings"]
    assert schema["properties"]["queue"]["default"] == "default"
    assert schema["additionalProperties"] is False


async def test_the_api_describes_every_way_to_a_job(api: Api) -> None:
    paths = (await api.http.get("/openapi.json")).json()["paths"]
    ways = {path.removeprefix("/v1/jobs") for path in paths if path.startswith("/v1/jobs")}
    job = "/{job_id}"
    assert ways == {"", "/cancel", "/requeue", job, *(job + way for way in WAYS)}


async def test_the_documentation_is_a_page(api: Api) -> None:
    answer = await api.http.get("/docs")
    assert answer.status_code == 200
    assert "text/html" in answer.headers["content-type"]
