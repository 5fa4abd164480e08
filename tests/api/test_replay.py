"""The past over HTTP: what the log tells, to whom it may, and within bounds."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from api import looks
from core.store import EventStore
from projections.building import clock_ms
from projections.past.looking import Rest, state_at, timeline
from projections.past.words import moment
from projections.replay.reading import LOG_PAGE
from tests.api.conftest import Api, OpenApi
from tests.api.errors import error_of
from tests.api.keys import OPERATOR
from tests.api.test_tenants import Tenant, tenant
from tests.api.workers import Script

NEVER = "0000000000000000000"


async def test_the_state_is_what_the_command_shows(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    jobs = [await api.submit(), await api.submit(queue="other", priority="low")]
    at_ms = await clock_ms(store)
    await api.http.post("/v1/queues/default/pause")
    answer = await api.http.get("/v1/replay/state", params={"at": moment(at_ms)})
    assert answer.status_code == 200, answer.text
    found = answer.json()["state"]
    assert found["waiting"] == len(jobs)
    assert [(queue["name"], queue["paused"]) for queue in found["queues"]] == [
        ("default", False),
        ("other", False),
    ]
    state, notes = await state_at(store, at_ms)
    assert answer.json() == {"state": json.loads(msgspec.json.encode(state)), "notes": notes}


async def test_the_timeline_is_what_the_command_tells(
    api: Api, store: EventStore, script: Script
) -> None:
    script.answer()
    job = await api.submit()
    assert (await api.job(job, wait=10))["status"] == "completed"
    answer = await api.http.get(f"/v1/replay/timeline/{job}")
    assert answer.status_code == 200, answer.text
    told, notes = await timeline(store, job)
    shown = answer.json()["timeline"]
    assert [one["type"] for one in shown["moments"]] == ["submitted", "claimed", "completed"]
    known = json.loads(msgspec.json.encode(told))
    assert shown | {"until_ms": 0} == known | {"until_ms": 0}
    assert answer.json()["notes"] == notes == []


async def test_what_there_is_not_is_said(api: Api) -> None:
    for job in (NEVER, "nope"):
        error_of(await api.http.get(f"/v1/replay/timeline/{job}"), 404, "job_not_found")
    ahead = await api.http.get("/v1/replay/state", params={"at": "2999-01-01T00:00:00Z"})
    assert "2999-01-01T00:00:00.000Z lies ahead" in error_of(ahead, 422, "invalid_value")["message"]
    noon = await api.http.get("/v1/replay/state", params={"at": "noon"})
    assert error_of(noon, 422, "invalid_value")["param"] == "at"
    error_of(await api.http.get("/v1/replay/state"), 422, "invalid_value")
    extra = await api.http.get(f"/v1/replay/timeline/{NEVER}", params={"at": "now"})
    assert error_of(extra, 422, "invalid_value")["param"] == "at"


async def test_a_tenant_has_the_timelines_of_its_own_jobs_and_no_state(
    open_api: OpenApi, store: EventStore, idle_worker: None
) -> None:
    api = await open_api(store, openai_api_key_required=True, openai_api_key=OPERATOR)
    ours, theirs = [await tenant(store, api, name) for name in ("ours", "theirs")]
    operator = Tenant(api, OPERATOR)
    job = await ours.submit()
    path = f"/v1/replay/timeline/{job}"
    for _ in range(2):
        assert (await ours.get(path)).status_code == 200
        assert (await operator.get(path)).status_code == 200
        error_of(await theirs.get(path), 404, "job_not_found")
        await store.client.delete(store.shards[0].head(job))  # Only its history is left of it.
    state, at = "/v1/replay/state", "2026-11-25T14:03:07Z"
    error_of(await ours.get(state, at=at), 403, "other_tenant")
    assert (await operator.get(state, at=at)).status_code == 200


async def test_a_look_that_takes_too_long_is_ended_with_the_way_that_has_no_limit(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "SECONDS_MAX", 0.0)
    answer = await api.http.get("/v1/replay/state", params={"at": "2026-11-25T14:03:07Z"})
    error = error_of(answer, 503, "replay_too_long")
    assert "`respool replay state --at 2026-11-25T14:03:07Z` has no limit" in error["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_a_look_gives_way_after_each_page(store: EventStore) -> None:
    log = store.shards[0].log
    event: dict[Any, Any] = {"j": "worker:w", "t": "worker_stopped", "d": "{}", "o": "x", "s": 1}
    async with store.client.pipeline(transaction=False) as pipe:
        for number in range(1, 2 * LOG_PAGE + 2):
            pipe.xadd(log, event | {"v": number, "q": number})
        await pipe.execute()
    rests = 0

    async def rest() -> None:
        nonlocal rests
        rests += 1

    await state_at(store, await clock_ms(store), rest=rest)
    assert rests == 3


async def test_one_look_goes_on_at_a_time_and_rests_for_as_long_as_it_worked() -> None:
    taking = looks.Looks()
    began: list[int] = []
    rested: list[float] = []

    async def look(rest: Rest) -> None:
        began.append(len(rested))
        loop = asyncio.get_running_loop()
        since = loop.time()
        await asyncio.sleep(0.02)
        worked = loop.time() - since
        await rest()
        rested.append((loop.time() - since) / worked)

    await asyncio.gather(*(taking.take(look, "") for _ in range(3)))
    assert began == [0, 1, 2]
    assert min(rested) >= 1.9
