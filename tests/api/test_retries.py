"""Retries as a client sees them: from what a real HTTP server does to the job and its events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from consumers.upstream.base import Limits
from core.events import ErrorKind
from core.store import EventStore
from tests.api.conftest import Api
from tests.api.workers import working
from tests.servers import RedisServer
from tests.upstream.asking import PATIENT
from tests.upstream.behaving import HELLO, behaving, requests, says_hello
from tests.upstream.fake import (
    Exchange,
    Fake,
    Script,
    answers,
    breaks_off,
    falls_silent,
    hangs,
    streams,
)

HASTY = Limits(connect_seconds=5, first_token_seconds=0.2, silence_seconds=0.2)
WAIT_SECONDS = 15


def complains(status: int, message: str, **headers: str) -> Script:
    return answers(status, {"error": {"message": message}}, **headers)


@asynccontextmanager
async def a_worker_of(
    store: EventStore, server: RedisServer, *scripts: Script, limits: Limits = PATIENT
) -> AsyncIterator[Fake]:
    """A worker of an inference server that does by these scripts; the server."""
    async with (
        behaving(*scripts, limits=limits) as (upstream, fake),
        working(store, server.url, upstream),
    ):
        yield fake


async def vanishes(exchange: Exchange) -> None:
    """Hang up without a word."""


FAILURES: list[tuple[Script, ErrorKind, str]] = [
    (hangs, ErrorKind.TIMEOUT, "did not send an answer within 0.2 s"),
    (falls_silent(HELLO[:1]), ErrorKind.TIMEOUT, "did not send another token within 0.2 s"),
    (complains(504, "gateway timeout"), ErrorKind.TIMEOUT, "answered 504: gateway timeout"),
    (complains(429, "slow down"), ErrorKind.OVERLOAD, "answered 429: slow down"),
    (complains(503, "loading model"), ErrorKind.OVERLOAD, "answered 503: loading model"),
    (complains(500, "it broke"), ErrorKind.SERVER_ERROR, "answered 500: it broke"),
    (complains(500, "CUDA out of memory"), ErrorKind.OUT_OF_MEMORY, "CUDA out of memory"),
    (complains(400, "n is too large"), ErrorKind.BAD_REQUEST, "answered 400: n is too large"),
    (complains(404, "no such model"), ErrorKind.UNKNOWN_MODEL, "answered 404: no such model"),
    (complains(401, "wrong key"), ErrorKind.REJECTED, "answered 401: wrong key"),
    (breaks_off(HELLO[:1]), ErrorKind.LOST_STREAM, "broke off"),
    (streams(HELLO[:1]), ErrorKind.LOST_STREAM, "ended without"),
    (vanishes, ErrorKind.LOST_STREAM, "broke off"),
]


@pytest.mark.parametrize(("script", "kind", "words"), FAILURES)
async def test_what_a_server_does_is_told_by_kind_and_in_words(
    api: Api, store: EventStore, server: RedisServer, script: Script, kind: ErrorKind, words: str
) -> None:
    async with a_worker_of(store, server, script, limits=HASTY):
        job_id = await api.submit(max_attempts=1)
        job = await api.job(job_id, wait=WAIT_SECONDS)
    assert job["status"] == "failed"
    assert (job["error"]["kind"], words in job["error"]["message"]) == (kind, True), job["error"]
    last = (await events_of(api, job_id))[-1]
    assert (last["type"], last["error"], last["attempts"]) == ("failed", job["error"], 1)


async def events_of(api: Api, job_id: str) -> list[dict[str, Any]]:
    answer = await api.http.get(f"/v1/jobs/{job_id}/events")
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


async def test_a_server_that_is_gone_when_a_job_is_claimed_cannot_be_reached(
    api: Api, store: EventStore, server: RedisServer
) -> None:
    async with a_worker_of(store, server, says_hello) as fake:
        fake.refuse()
        job = await api.job(await api.submit(max_attempts=1), wait=WAIT_SECONDS)
    assert job["error"]["kind"] == ErrorKind.CONNECT
    assert f"{fake.url} cannot be reached" in job["error"]["message"]


async def test_a_job_is_tried_as_often_as_it_asked_for_and_each_failure_says_why(
    api: Api, store: EventStore, server: RedisServer
) -> None:
    scripts = complains(500, "it broke"), complains(502, "still broken")
    async with a_worker_of(store, server, *scripts) as fake:
        job_id = await api.submit(max_attempts=2)
        job = await api.job(job_id, wait=WAIT_SECONDS)
    assert (job["status"], job["attempt"], job["max_attempts"]) == ("failed", 2, 2)
    assert len(requests(fake)) == 2
    told = await events_of(api, job_id)
    assert [event["type"] for event in told] == [
        "submitted",
        "claimed",
        "attempt_failed",
        "queued",
        "claimed",
        "failed",
    ]
    assert [event["attempt"] for event in told if event["type"] == "claimed"] == [1, 2]
    assert told[2]["error"]["message"] == "the inference server answered 500: it broke"
    assert told[5]["error"]["message"] == "the inference server answered 502: still broken"
    assert 0 <= told[2]["delay_ms"] <= 1_000


async def test_while_a_job_waits_for_its_next_attempt_it_says_why_and_until_when(
    api: Api, store: EventStore, server: RedisServer
) -> None:
    async with a_worker_of(store, server, complains(429, "slow down", retry_after="600")):
        job_id = await api.submit()
        async with asyncio.timeout(WAIT_SECONDS):
            while (job := await api.job(job_id))["status"] != "scheduled":
                await asyncio.sleep(0.01)
    assert job["error"] == {
        "kind": "overload",
        "message": "the inference server answered 429: slow down",
        "retry_after_ms": 600_000,
    }
    failed = (await events_of(api, job_id))[-1]
    assert seconds_between(failed["at"], job["due_at"]) >= 600


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


RETRY_AFTER = {"retry_after": "2"}
RETRY_AFTER_DATE = {
    "date": "Wed, 21 Oct 2015 07:28:00 GMT",
    "retry_after": "Wed, 21 Oct 2015 07:28:02 GMT",
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("headers", [RETRY_AFTER, RETRY_AFTER_DATE], ids=["seconds", "date"])
async def test_a_job_is_not_tried_again_before_the_server_wants_it(
    api: Api, store: EventStore, server: RedisServer, status: int, headers: dict[str, str]
) -> None:
    scripts = complains(status, "later", **headers), says_hello
    async with a_worker_of(store, server, *scripts) as fake:
        job_id = await api.submit()
        job = await api.job(job_id, wait=WAIT_SECONDS)
    assert job["status"] == "completed"
    failed, queued = (await events_of(api, job_id))[2:4]
    assert failed["error"]["retry_after_ms"] == 2_000
    assert 2_000 <= failed["delay_ms"] <= 3_000
    assert (queued["type"], queued["why"]) == ("queued", "due")
    assert seconds_between(failed["at"], queued["at"]) >= failed["delay_ms"] / 1_000
    assert len(requests(fake)) == 2
