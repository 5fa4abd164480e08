"""One too many: which limit that was, when to come again, and what is left before it comes to that."""

import asyncio
from typing import Any

import httpx
import pytest

from api.headers import duration, rate_headers, retry_headers
from core.access import KeyLimits
from core.commands import Claim, Complete
from core.events import Timings
from core.rates import FREE, Level, Levels
from core.store import EventStore
from projections.reading.position import Reader
from tests.api.conftest import CHAT, Api, OpenApi
from tests.api.errors import error_of
from tests.api.keys import a_key, bearer
from tests.api.soon import soon
from tests.api.workers import a_worker
from tests.conftest import OpenStore
from tests.given import CHAT as REQUEST
from tests.given import a_job
from tests.projections.views import catch_up

ASKED = {"model": "echo", **CHAT}


async def with_limits(api: Api, name: str = "a-key", **limits: int) -> dict[str, str]:
    """The header of a new key with these limits, once the API knows it."""
    headers = bearer(await a_key(api.store, name, limits=KeyLimits(**limits)))

    async def is_known() -> bool:
        return (await api.http.get("/v1/models", headers=headers)).status_code == 200

    await soon(is_known)
    return headers


@pytest.fixture
async def locked(store: EventStore, open_api: OpenApi, idle_worker: None) -> Api:
    """An API that requires keys."""
    return await open_api(store, openai_api_key_required=True, openai_api_key="operator-s")


def limited(answer: httpx.Response, kind: str) -> dict[str, Any]:
    error = error_of(answer, 429, "rate_limit_exceeded")
    assert error["type"] == kind
    after, after_ms = int(answer.headers["retry-after"]), int(answer.headers["retry-after-ms"])
    assert 1 <= after <= 60
    assert (after - 1) * 1_000 < after_ms <= after * 1_000
    return error


async def test_requests_a_minute_are_counted_down_and_then_refused(locked: Api) -> None:
    headers = await with_limits(locked, requests_per_minute=2)
    for remaining in ("1", "0"):
        answer = await locked.post(headers)
        assert answer.status_code == 202
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == remaining
    refused = await locked.post(headers)
    error = limited(refused, "requests")
    assert "this API key may have 2 requests a minute; there is one more in " in error["message"]
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert 20 <= int(refused.headers["retry-after"]) <= 30
    assert "x-ratelimit-limit-tokens" not in refused.headers
    other = await with_limits(locked, "another", requests_per_minute=1)
    assert (await locked.post(other)).status_code == 202


async def test_tokens_a_minute_are_paid_for_by_what_was_answered(
    store: EventStore, open_api: OpenApi, echo_worker: None
) -> None:
    api = await open_api(store)
    headers = await with_limits(api, tokens_per_minute=4)
    first = await api.http.post("/v1/chat/completions", json=ASKED, headers=headers)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-remaining-tokens"] == "4"
    assert first.json()["usage"]["total_tokens"] >= 4
    refused = await api.http.post("/v1/chat/completions", json=ASKED, headers=headers)
    error = limited(refused, "tokens")
    assert "may have 4 tokens a minute" in error["message"]
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_jobs_in_flight_are_a_limit_until_one_of_them_has_ended(locked: Api) -> None:
    headers = await with_limits(locked, jobs_in_flight=1)
    job = (await locked.post(headers)).json()["id"]
    error = limited(await locked.post(headers), "requests")
    assert error["message"] == (
        "1 jobs of this API key have not ended, and it may have 1 in flight; "
        "there is room once one of them has ended"
    )
    await locked.http.post(f"/v1/jobs/{job}/cancel", headers=headers)
    assert (await locked.post(headers)).status_code == 202


async def test_every_answer_to_a_submission_says_what_is_left(
    store: EventStore, open_api: OpenApi, echo_worker: None
) -> None:
    api = await open_api(store)
    headers = await with_limits(api, requests_per_minute=100, tokens_per_minute=10_000)
    again = headers | {"Idempotency-Key": "again"}
    answers = [await api.post(again) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200]
    for extra in ({}, {"stream": True}):
        asked = ASKED | extra
        answers.append(await api.http.post("/v1/chat/completions", json=asked, headers=headers))
    answers.append(
        await api.http.post("/v1/embeddings", json={"model": "echo", "input": "x"}, headers=headers)
    )
    assert {answer.status_code for answer in answers} == {200, 202}
    for answer in answers:
        for what in ("requests", "tokens"):
            for part in ("limit", "remaining", "reset"):
                assert f"x-ratelimit-{part}-{what}" in answer.headers
    looked_at = await api.http.get("/v1/jobs", headers=headers)
    assert not [name for name in looked_at.headers if name.startswith("x-ratelimit")]


async def test_who_is_held_to_nothing_is_told_nothing(api: Api, idle_worker: None) -> None:
    answer = await api.post()
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def _full(open_store: OpenStore, open_api: OpenApi, ended: int = 0) -> Api:
    """An API whose queue is full, after so many jobs of it have ended."""
    store = await open_store(waiting_max=2)
    await a_worker(store)
    for _ in range(ended):
        job = await a_job(store)
        await store.execute(job, Claim("w1"))
        await store.execute(job, Complete(1, REQUEST, Timings(ran_ms=1)))
    for _ in range(2):
        await a_job(store)
    await catch_up(store)
    return await open_api(store)


async def test_a_full_queue_says_when_there_is_room_at_the_pace_it_drains(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    api = await _full(open_store, open_api, ended=30)
    answer = await api.post()
    error_of(answer, 429, "queue_full")
    # One of 30 in the last four to five minutes.
    assert 8 <= int(answer.headers["retry-after"]) <= 10
    assert 8_000 <= int(answer.headers["retry-after-ms"]) <= 10_000


async def test_a_full_queue_that_does_not_drain_is_asked_again_in_a_minute(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    api = await _full(open_store, open_api)
    answer = await api.post()
    error_of(answer, 429, "queue_full")
    assert answer.headers["retry-after"] == "60"


async def test_a_full_queue_says_that_no_worker_is_alive(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    store = await open_store(waiting_max=1)
    await a_worker(store, is_alive=False)
    api = await open_api(store)
    await api.submit()
    answer = await api.post()
    message = error_of(answer, 429, "queue_full")["message"]
    assert message == "queue 'default' is full: 1 jobs wait, and it takes 1; no worker is alive"
    assert answer.headers["retry-after"] == "60"


async def test_what_many_are_refused_for_is_looked_up_once(
    open_store: OpenStore, open_api: OpenApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await _full(open_store, open_api, ended=300)
    asked: list[str] = []
    ask = Reader.ask

    async def counted(reader: Reader, name: str, *arguments: Any) -> Any:
        asked.append(name)
        return await ask(reader, name, *arguments)

    monkeypatch.setattr(Reader, "ask", counted)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await asyncio.gather(*(api.post() for _ in range(200)))
    seconds = loop.time() - began
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert 1 <= len(asked) <= 1 + seconds


async def test_a_full_schedule_is_another_limit_and_says_so(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    store = await open_store(scheduled_max=1)
    await a_worker(store)
    api = await open_api(store)
    await api.submit(delay_seconds=60)
    answer = await api.post(delay_seconds=60)
    message = error_of(answer, 429, "queue_full")["message"]
    assert message == "queue 'default' is full: 1 jobs are scheduled for it, and it takes 1"
    assert (await api.post()).status_code == 202


async def test_a_job_that_waits_says_where_in_headers_too(api: Api, idle_worker: None) -> None:
    jobs = [await api.submit() for _ in range(2)]
    await catch_up(api.store)
    for place, job in enumerate(jobs, 1):
        answer = await api.http.get(f"/v1/jobs/{job}")
        assert answer.headers["x-queue-position"] == str(place) == str(answer.json()["position"])


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (0, "0s"),
        (0.2, "1ms"),
        (120, "120ms"),
        (1_000, "1s"),
        (8_640, "8.64s"),
        (83_500, "1m23.5s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
    ],
)
def test_times_are_written_as_openai_does(milliseconds: float, said: str) -> None:
    assert duration(milliseconds) == said


@pytest.mark.parametrize(
    ("wait_ms", "seconds", "milliseconds"),
    [(0, "1", "1"), (350.2, "1", "351"), (1_001, "2", "1001"), (900_000, "60", "60000")],
)
def test_nobody_is_told_to_wait_for_longer_than_a_minute(
    wait_ms: float, seconds: str, milliseconds: str
) -> None:
    told = {"Retry-After": seconds, "retry-after-ms": milliseconds}
    assert retry_headers(wait_ms) == told


def test_what_is_left_is_said_for_each_limit_that_there_is() -> None:
    assert rate_headers(FREE) == {}
    assert rate_headers(Levels(tokens=Level(1_000, 1_000, 90_000.0))) == {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m30s",
    }
