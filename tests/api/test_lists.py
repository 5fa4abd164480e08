"""Lists of jobs: every filter, cursors that neither lose nor repeat, and positions that are waited for."""

import asyncio
from itertools import product
from random import Random
from typing import Any

import pytest

from core.commands import Cancel, Claim, ConfirmCancel
from core.events import Priority
from core.states import STATUSES
from core.store import EventStore
from tests.api.conftest import Api, OpenApi, projecting
from tests.api.errors import error_of
from tests.conftest import OpenStore
from tests.given import a_job
from tests.projections.views import catch_up, lives

MARKS = ("status", "queue", "model", "tenant")


async def listed(api: Api, **parameters: Any) -> list[dict[str, Any]]:
    """All jobs that match, page by page."""
    jobs: list[dict[str, Any]] = []
    while True:
        answer = await api.http.get("/v1/jobs", params=parameters)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        jobs += page["jobs"]
        if page["cursor"] is None:
            return jobs
        parameters["cursor"] = page["cursor"]


@pytest.mark.parametrize("shards", [1, 3])
async def test_every_combination_of_filters_lists_what_matches_newest_first(
    open_store: OpenStore, open_api: OpenApi, shards: int
) -> None:
    store = await open_store(shards=shards)
    await lives(store, 120, Random(8))
    await catch_up(store, 500)
    api = await open_api(store)
    everything = await listed(api, limit=200)
    assert len(everything) == 120
    created = [job["created_at"] for job in everything]
    assert created == sorted(created, reverse=True)
    values = [{None, *(job[mark] for job in everything)} for mark in MARKS]
    for wanted in product(*values):
        marks = {mark: value for mark, value in zip(MARKS, wanted, strict=True) if value}
        matching = [job for job in everything if marks.items() <= job.items()]
        assert await listed(api, **marks, limit=7) == matching


async def test_a_job_of_a_list_is_the_job_itself(store: EventStore, open_api: OpenApi) -> None:
    await lives(store, 60, Random(9))
    await catch_up(store, 500)
    api = await open_api(store)
    compared = 0
    for job in await listed(api):
        itself = await api.job(job["id"]) | {"position": None, "eta_seconds": None}
        if job["version"] == itself["version"]:  # No timer has moved it on meanwhile.
            assert job == itself
            compared += 1
    assert compared > 30


async def test_several_statuses_are_listed_together(store: EventStore, open_api: OpenApi) -> None:
    await lives(store, 60, Random(10))
    await catch_up(store, 500)
    api = await open_api(store)
    everything = await listed(api, status=",".join(STATUSES))
    assert len(everything) == 60
    wanted = {everything[0]["status"], "cancelled", "expired"}
    matching = [job for job in everything if job["status"] in wanted]
    assert await listed(api, status=", ".join(wanted)) == matching


async def test_pages_neither_lose_nor_repeat_a_job_while_jobs_move(
    store: EventStore, api: Api, projector: None
) -> None:
    first = {await a_job(store) for _ in range(50)}
    moving = asyncio.create_task(lives(store, 300, Random(11)))
    seen: list[str] = []
    cursor = None
    since = (await api.job(max(first)))["position_in_log"]
    while True:
        parameters: dict[str, Any] = {"limit": 4, "min_position": since}
        page = (await api.http.get("/v1/jobs", params=parameters | _given(cursor))).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    await moving
    assert len(set(seen)) == len(seen)
    assert first <= set(seen)


def _given(cursor: str | None) -> dict[str, str]:
    return {} if cursor is None else {"cursor": cursor}


async def test_whoever_asks_for_its_position_sees_its_own_job(
    api: Api, idle_worker: None, projector: None
) -> None:
    for _ in range(20):
        job_id = await api.submit()
        since = (await api.job(job_id))["position_in_log"]
        page = (await api.http.get("/v1/jobs", params={"min_position": since, "limit": 1})).json()
        assert page["jobs"][0]["id"] == job_id
        assert page["position"] >= since


async def test_views_that_do_not_come_so_far_in_time_are_503(api: Api, idle_worker: None) -> None:
    """There is no projector."""
    since = (await api.job(await api.submit()))["position_in_log"]
    answer = await api.http.get("/v1/jobs", params={"min_position": since})
    error = error_of(answer, 503, "views_behind")
    assert since in error["message"]
    assert answer.headers["Retry-After"] == "1"


async def test_a_position_beyond_the_end_of_the_log_is_not_waited_for(
    api: Api, idle_worker: None, projector: None
) -> None:
    answer = await api.http.get("/v1/jobs", params={"min_position": "99999999999999-0"})
    assert answer.status_code == 200


async def test_jobs_are_listed_by_time(store: EventStore, api: Api, projector: None) -> None:
    ids = [await a_job(store) for _ in range(3)]
    jobs = [await api.job(job_id) for job_id in ids]
    since = jobs[2]["position_in_log"]
    second = jobs[1]["created_at"]
    after = await listed(api, created_after=second, min_position=since)
    before = await listed(api, created_before=second, min_position=since)
    assert ids[1] in {job["id"] for job in after}
    assert {job["id"] for job in after} | {job["id"] for job in before} == set(ids)
    assert not {job["id"] for job in after} & {job["id"] for job in before}


async def test_a_waiting_job_knows_its_place_in_line(
    store: EventStore, api: Api, idle_worker: None, projector: None
) -> None:
    low = await api.submit(priority="low")
    normal = await api.submit()
    other = await api.submit(queue="other")
    urgent = await api.submit(priority="high")
    await api.http.get(
        "/v1/jobs", params={"min_position": (await api.job(urgent))["position_in_log"]}
    )
    places = {
        job_id: (await api.job(job_id))["position"] for job_id in (urgent, normal, low, other)
    }
    assert places == {urgent: 1, normal: 2, low: 3, other: 1}


async def test_a_waiting_job_says_how_long_it_will_wait_at_the_pace_of_the_last_minutes(
    store: EventStore, api: Api, projector: None
) -> None:
    first, last = [await a_job(store) for _ in range(2)]
    for _ in range(3):
        done = await a_job(store, priority=Priority.HIGH)
        await store.execute(done, Claim("w1"))
        await store.execute(done, Cancel("somebody"))
        await store.execute(done, ConfirmCancel(1))
    since = (await api.job(done))["position_in_log"]
    await api.http.get("/v1/jobs", params={"min_position": since})
    places = [await api.job(job_id) for job_id in (first, last)]
    assert [job["position"] for job in places] == [1, 2]
    assert 80 <= places[0]["eta_seconds"] <= 100  # Three in the last four to five minutes.
    assert 160 <= places[1]["eta_seconds"] <= 200


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"staus": "failed"}, "staus: there is no such parameter; takes status, queue, model"),
        ({"status": ["failed", "expired"]}, "status: takes one value"),
        ({"queue": "no such"}, "a queue's name takes 1 to 64 letters"),
        ({"status": "done"}, "status: takes some of scheduled, queued, running"),
        ({"cursor": "no cursor"}, "cursor: takes a cursor as a list gave it"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"created_after": "yesterday"}, "created_after: takes a time such as 2026"),
        ({"created_before": "2026-11-25T14:03:00"}, "created_before: takes a time with its zone"),
        ({"min_position": "here"}, "min_position: takes a position as an answer states it"),
        ({"min_position": "1" * 5_000 + "-1"}, "min_position: takes a position as an answer"),
        ({"min_position": "1-1,2-2"}, "min_position: takes one entry or 1"),
    ],
)
async def test_a_wrong_parameter_is_named_with_what_it_takes(
    api: Api, parameters: dict[str, Any], says: str
) -> None:
    answer = await api.http.get("/v1/jobs", params=parameters)
    error = error_of(answer, 422, "invalid_value")
    assert says in error["message"]
    assert error["param"] == next(iter(parameters))


@pytest.mark.parametrize("path", ["queues", "queues/default", "workers", "usage", "outcomes"])
async def test_a_parameter_that_there_is_not_is_refused(api: Api, path: str) -> None:
    answer = await api.http.get(f"/v1/{path}", params={"status": "failed"})
    error = error_of(answer, 422, "invalid_value")
    assert "min_position" in error["message"]
    assert error["param"] == "status"


async def test_an_empty_store_lists_nothing(api: Api) -> None:
    for path in ("jobs", "queues", "workers", "usage", "outcomes"):
        answer = (await api.http.get(f"/v1/{path}")).json()
        assert answer[path] == []
        assert answer["position"] == "0-0"


async def test_views_that_stand_still_say_so(store: EventStore, open_api: OpenApi) -> None:
    await a_job(store)
    async with projecting(store):
        await store.client.xadd(
            store.shards[0].log,
            {"j": "x", "v": 1, "t": "promoted", "d": "{}", "o": "x", "q": 2, "s": 1},
        )
        api = await open_api(store)
        async with asyncio.timeout(10):
            while "note" not in (page := (await api.http.get("/v1/jobs")).json()):
                await asyncio.sleep(0.01)
        assert (await api.http.get("/readyz")).json()["note"] == page["note"]
        ahead = {"min_position": f"{page['position'].partition('-')[0]}-999999"}
        error_of(await api.http.get("/v1/jobs", params=ahead), 503, "views_behind")
    assert "no event of type 'promoted'" in page["note"]
    assert len(page["jobs"]) == 1
