"""A job's events: as JSON, and as a stream that ends when the job does."""

import re
from typing import Any

from tests.api.conftest import Api
from tests.api.sse import streaming, whole
from tests.api.workers import Script

WHOLE_LIFE = [("1", "submitted"), ("2", "claimed"), ("3", "completed")]


async def events_of(api: Api, job_id: str) -> list[dict[str, Any]]:
    answer = await api.http.get(f"/v1/jobs/{job_id}/events")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


async def test_events_are_numbered_and_have_their_time_and_place(
    api: Api, echo_worker: None
) -> None:
    job = await api.job(await api.submit(metadata={"for": "a test"}), wait=10)
    events = await events_of(api, job["id"])
    assert [(event["version"], event["type"]) for event in events] == [
        (1, "submitted"),
        (2, "claimed"),
        (3, "completed"),
    ]
    assert [event["at"] for event in events] == [
        job["created_at"],
        job["started_at"],
        job["finished_at"],
    ]
    positions = [tuple(map(int, event["position"].split("-"))) for event in events]
    assert positions == sorted(set(positions))
    assert events[-1]["position"] == job["position_in_log"]


async def test_an_event_carries_what_happened(api: Api, echo_worker: None) -> None:
    job_id = await api.submit(metadata={"for": "a test"})
    await api.job(job_id, wait=10)
    submitted, claimed, completed = await events_of(api, job_id)
    assert submitted["metadata"] == {"for": "a test"}
    assert submitted["request"]["messages"][0]["content"] == "one two three"
    assert (claimed["claim"], claimed["attempt"], claimed["worker"]) == (1, 1, "worker-1")
    assert completed["result"]["choices"][0]["message"]["content"] == "one two three"
    assert completed["usage"]["completion_tokens"] == 3
    assert completed["timings"]["ran_ms"] >= 0


async def test_times_are_rfc_3339_in_utc(api: Api, idle_worker: None) -> None:
    [event] = await events_of(api, await api.submit())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["at"])


async def test_a_stream_has_all_events_and_closes_after_the_last(
    api: Api, echo_worker: None
) -> None:
    job_id = await api.submit()
    assert await whole(api, f"/v1/jobs/{job_id}/events") == WHOLE_LIFE


async def test_a_stream_of_a_job_that_has_ended_is_the_same(api: Api, echo_worker: None) -> None:
    job_id = await api.submit()
    await api.job(job_id, wait=10)
    assert await whole(api, f"/v1/jobs/{job_id}/events") == WHOLE_LIFE


async def test_events_are_streamed_as_they_happen(api: Api, script: Script) -> None:
    job_id = await api.submit()
    async with streaming(api, f"/v1/jobs/{job_id}/events") as stream:
        assert await stream.take(2) == WHOLE_LIFE[:2]
        script.answer()
        assert await stream.rest() == WHOLE_LIFE[2:]


async def test_a_streamed_event_is_the_event_as_json_has_it(api: Api, echo_worker: None) -> None:
    job_id = await api.submit()
    async with streaming(api, f"/v1/jobs/{job_id}/events") as stream:
        streamed = [(await stream.next()).json() for _ in WHOLE_LIFE]
    assert streamed == await events_of(api, job_id)


async def test_a_stream_goes_on_after_the_last_event_that_was_seen(
    api: Api, echo_worker: None
) -> None:
    path = f"/v1/jobs/{await api.submit()}/events"
    assert await whole(api, path, "1") == WHOLE_LIFE[1:]
    assert await whole(api, path, "2") == WHOLE_LIFE[2:]
    assert await whole(api, path, "3") == []
    assert await whole(api, path, "") == WHOLE_LIFE


async def test_a_job_that_was_requeued_is_streamed_through_both_lives(
    api: Api, idle_worker: None
) -> None:
    job_id = await api.submit()
    for way in ("cancel", "requeue", "cancel"):
        assert (await api.http.post(f"/v1/jobs/{job_id}/{way}")).is_success
    assert await whole(api, f"/v1/jobs/{job_id}/events") == [
        ("1", "submitted"),
        ("2", "cancelled"),
        ("3", "requeued"),
        ("4", "cancelled"),
    ]


async def test_a_stream_is_not_to_be_cached_or_buffered(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    headers = {"Accept": "text/event-stream"}
    answer = await api.http.get(f"/v1/jobs/{job_id}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
