"""How many streams may be open: for a key, for the process; and what a thousand of them do to others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from litestar import Request

from core.access import ANYBODY, Caller, KeyLimits, Scope
from core.store import EventStore
from tests.api.conftest import CHAT, Api, OpenApi
from tests.api.errors import error_of
from tests.api.soon import soon
from tests.api.sse import streaming
from tests.api.workers import Script
from tests.given import a_job

KEY = "x-test-key"
MANY = 1_000
STREAMED = {"model": "echo", "stream": True} | CHAT


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are of the key that their header names, which may have two streams."""

    def caller_of(request: Request[Any, Any, Any]) -> Caller:
        name = request.headers.get(KEY)
        if name is None:
            return ANYBODY
        limits = KeyLimits(streams=2)
        return Caller(
            tenant="t", sees=None, scopes=frozenset(Scope), key=name, name=name, limits=limits
        )

    monkeypatch.setattr("api.app.caller_of", caller_of)


async def is_refused(
    api: Api, code: str, path: str = "/v1/events", body: dict[str, Any] | None = None
) -> None:
    """A stream is asked for and refused; one that is answered would never end."""
    method, headers = "GET" if body is None else "POST", {"Accept": "text/event-stream"}
    async with api.http.stream(method, path, json=body, headers=headers) as answer:
        assert answer.status_code == 429
        await answer.aread()
    error = error_of(answer, 429, code)
    assert "as many as it may" in error["message"] or "and allows" in error["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_a_key_has_as_many_streams_as_it_may_whatever_they_are_of(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    job = await a_job(store)
    api.http.headers[KEY] = "a"
    paths = [f"/v1/jobs/{job}/events", f"/v1/jobs/{job}/output", "/v1/events"]
    async with streaming(api, paths[0]) as one, streaming(api, "/v1/events"):
        for path in paths:
            await is_refused(api, "rate_limit_exceeded", path)
        before = len(await store.feed(0, "0-0"))
        await is_refused(api, "rate_limit_exceeded", "/v1/chat/completions", STREAMED)
        assert len(await store.feed(0, "0-0")) == before  # There is no job that nobody reads.
        await one.take(1)


async def test_a_stream_that_is_over_makes_room(api: Api, store: EventStore) -> None:
    api.http.headers[KEY] = "a"
    job = await a_job(store)
    path = f"/v1/jobs/{job}/events"
    async with streaming(api, path) as ends, streaming(api, "/v1/events"):
        await api.http.post(f"/v1/jobs/{job}/cancel")
        await ends.rest()
        await soon(lambda: api.desk.streams.open == 1)
        async with streaming(api, "/v1/events"):
            await is_refused(api, "rate_limit_exceeded")
    await soon(lambda: api.desk.streams.open == 0)


async def test_one_key_takes_nothing_from_another(api: Api) -> None:
    api.http.headers[KEY] = "a"
    async with streaming(api, "/v1/events"), streaming(api, "/v1/events"):
        await is_refused(api, "rate_limit_exceeded")
        api.http.headers[KEY] = "b"
        async with streaming(api, "/v1/events"):
            pass


async def test_a_process_has_as_many_streams_as_it_allows(
    open_api: OpenApi, store: EventStore, script: Script
) -> None:
    api = await open_api(store, stream_limit=1)
    asking = asyncio.create_task(api.http.post("/v1/chat/completions", json=STREAMED))
    await script.called.wait()
    await is_refused(api, "too_many_streams")
    script.answer()
    assert (await asking).is_success
    await soon(lambda: api.desk.streams.open == 0)


async def test_an_answer_that_fails_before_it_begins_keeps_no_place(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    api.http.headers[KEY] = "a"
    for _ in range(3):
        unknown = await api.http.post("/v1/chat/completions", json=STREAMED | {"model": "gpt"})
        error_of(unknown, 404, "model_not_found")
    assert api.desk.streams.open == 0
    asking = asyncio.create_task(api.http.post("/v1/chat/completions", json=STREAMED))
    await soon(lambda: api.desk.streams.open == 1)
    asking.cancel()  # While its job is queued.
    await soon(lambda: api.desk.streams.open == 0)


@asynccontextmanager
async def idle_reader(url: str, path: str) -> AsyncIterator[asyncio.StreamReader]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_a_thousand_idle_readers_are_told_and_hold_up_nobody(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    job = await a_job(store)
    url = str(api.http.base_url)
    async with AsyncExitStack() as stack, asyncio.timeout(120):
        readers = [
            await stack.enter_async_context(idle_reader(url, path))
            for path in ("/v1/events", f"/v1/jobs/{job}/events")
            for _ in range(MANY // 2)
        ]
        assert api.desk.streams.open == MANY
        assert (await api.job(await api.submit()))["status"] == "queued"
        await api.http.post(f"/v1/jobs/{job}/cancel")
        for reader in readers:
            await reader.readuntil(b"event: cancelled\r\n")
    await soon(lambda: api.desk.streams.open == 0)
    assert not api.desk.firehose.ring
