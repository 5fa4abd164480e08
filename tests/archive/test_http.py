"""A job that has left the store, over HTTP: what the archive has of it, and to whom."""

from collections.abc import AsyncIterator

import pytest
from msgspec import Raw

from core.commands import Claim, Complete
from core.events import Timings
from core.store import EventStore
from projections.building import build
from tests.api.conftest import Api, serving_api
from tests.api.errors import error_of
from tests.api.keys import OPERATOR, a_key, bearer
from tests.api.sse import streaming
from tests.archive.logs import archiver_of
from tests.given import a_job, new_id

RESULT = b'{"choices": []}'


@pytest.fixture
async def archived(kept: EventStore) -> str:
    """A completed job of the tenant `acme`, whose head has expired."""
    job = await a_job(kept, tenant="acme")
    await kept.execute(job, Claim("w1"))
    await kept.execute(job, Complete(1, Raw(RESULT), Timings(5), chunks=2))
    await a_job(kept)  # What a log has last stays in it.
    await build(kept)
    await archiver_of(kept).work(kept.shards[0], close=True)
    assert await kept.view(job) is None
    return job


@pytest.fixture
async def api(kept: EventStore) -> AsyncIterator[Api]:
    async with serving_api(kept, openai_api_key_required=True, openai_api_key=OPERATOR) as api:
        api.http.headers.update(bearer(OPERATOR))
        yield api


async def test_the_job_its_result_and_its_events_are_as_they_were(api: Api, archived: str) -> None:
    job = await api.job(archived)
    assert (job["status"], job["tenant"], job["version"]) == ("completed", "acme", 3)
    assert (await api.job(archived, wait=10)) == job, "it has ended"
    assert (await api.http.get(f"/v1/jobs/{archived}/result")).content == RESULT
    listed = (await api.http.get(f"/v1/jobs/{archived}/events")).json()["events"]
    assert [event["type"] for event in listed] == ["submitted", "claimed", "completed"]
    api.http.headers["Accept"] = "text/event-stream"
    async with streaming(api, f"/v1/jobs/{archived}/events") as stream:
        assert [event[1] for event in await stream.rest()] == [event["type"] for event in listed]


@pytest.mark.parametrize(
    ("method", "what"), [("POST", "cancel"), ("POST", "requeue"), ("GET", "output")]
)
async def test_what_needs_the_job_in_the_store_says_where_it_is(
    api: Api, archived: str, method: str, what: str
) -> None:
    answer = await api.http.request(method, f"/v1/jobs/{archived}/{what}")
    error = error_of(answer, 409, "job_archived")
    assert error["message"] == (
        f"the job is completed, and only the archive has it: GET /v1/jobs/{archived} shows it"
    )


@pytest.fixture
async def other(kept: EventStore) -> dict[str, str]:
    """The header of another tenant's key, which is there before the API is."""
    return bearer(await a_key(kept, tenant="other"))


@pytest.mark.parametrize("what", ["", "/result", "/events", "/output"])
async def test_it_is_still_its_tenants_alone(
    archived: str, other: dict[str, str], api: Api, what: str
) -> None:
    answer = await api.http.get(f"/v1/jobs/{archived}{what}", headers=other)
    error_of(answer, 404, "job_not_found")


async def test_one_that_never_was_is_in_no_archive(api: Api, archived: str) -> None:
    error_of(await api.http.get(f"/v1/jobs/{new_id()}"), 404, "job_not_found")
