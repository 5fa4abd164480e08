"""Every answer has a request's id, HEAD goes wherever GET goes, and OPTIONS says what does."""

import asyncio
import logging
import re

import httpx
import pytest
import structlog

from core.store import EventStore
from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.api.soon import listeners, soon
from tests.api.wire import get, line_to
from tests.given import new_id

MADE = re.compile(r"[0-9a-f]{32}")


async def an_answer_of_each_kind(api: Api, headers: dict[str, str]) -> list[httpx.Response]:
    """An id in `headers` goes with each of them."""
    job_id = await api.submit()
    asked = [
        ("GET", "/healthz", 200),
        ("GET", f"/v1/jobs/{job_id}", 200),
        ("GET", f"/v1/jobs/{job_id}/result", 409),
        ("POST", f"/v1/jobs/{job_id}/cancel", 202),
        ("POST", "/v1/jobs", 400),
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/jobs?limit=x", 422),
        ("GET", "/nothing", 404),
        ("DELETE", "/v1/jobs", 405),
        ("OPTIONS", "/v1/jobs", 204),
        ("HEAD", "/healthz", 200),
    ]
    answers = [await api.http.request(method, path, headers=headers) for method, path, _ in asked]
    assert [answer.status_code for answer in answers] == [status for _, _, status in asked]
    return answers


async def test_every_answer_has_an_id_of_its_own(api: Api, idle_worker: None) -> None:
    ids = [answer.headers["x-request-id"] for answer in await an_answer_of_each_kind(api, {})]
    assert all(MADE.fullmatch(one) for one in ids)
    assert len(set(ids)) == len(ids)


async def test_an_answer_has_the_id_that_the_client_gave(api: Api, idle_worker: None) -> None:
    answers = await an_answer_of_each_kind(api, {"X-Request-ID": "req_7.a/b:c=d"})
    assert {answer.headers["x-request-id"] for answer in answers} == {"req_7.a/b:c=d"}


async def test_an_id_that_could_do_harm_is_not_taken(api: Api) -> None:
    for sent in ["", "two words", "x" * 129, "é", "tab\tbed"]:
        answer = await api.http.get("/healthz", headers=[(b"X-Request-ID", sent.encode())])
        assert MADE.fullmatch(answer.headers["x-request-id"]), sent


async def test_what_a_request_logs_has_its_id(
    api: Api, store: EventStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ids.append(structlog.contextvars.get_contextvars()["request_id"])

    async def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(store, "view", broken)
    logger, listening = logging.getLogger("api.errors"), Listening()
    logger.addHandler(listening)
    try:
        async with asyncio.TaskGroup() as together:
            for name in ["one", "two"]:
                headers = {"X-Request-ID": name}
                together.create_task(api.http.get(f"/v1/jobs/{new_id()}", headers=headers))
    finally:
        logger.removeHandler(listening)
    assert sorted(ids) == ["one", "two"]


async def test_head_is_get_without_a_body(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    for path in ["/healthz", "/openapi.json", f"/v1/jobs/{job_id}", "/v1/models", "/v1/jobs/7"]:
        with_body = await api.http.get(path)
        answer = await api.http.head(path)
        assert (answer.status_code, answer.content) == (with_body.status_code, b"")
        for name in ["content-type", "content-length"]:
            assert answer.headers[name] == with_body.headers[name]


async def test_head_of_a_stream_ends_at_once(api: Api, idle_worker: None) -> None:
    job_id = await api.submit()
    for way in ["output", "events"]:
        headers = {"Accept": "text/event-stream"}
        answer = await api.http.head(f"/v1/jobs/{job_id}/{way}", headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")
    await soon(lambda: listeners(api, job_id) == 0)


async def test_after_a_head_the_connection_goes_on(api: Api) -> None:
    async with line_to(api.http.base_url) as line:
        await line.send(get("/healthz", method="HEAD") + get("/v1/nothing"))
        assert (await line.head()).status == 200
        assert (await line.answer()).status == 404


async def test_head_is_refused_where_get_is(api: Api) -> None:
    answer = await api.http.head("/v1/jobs/7/cancel")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def test_options_says_what_a_path_takes(api: Api) -> None:
    for path, allowed in [
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/v1/jobs", "GET, HEAD, OPTIONS, POST"),
        ("/v1/chat/completions", "OPTIONS, POST"),
    ]:
        answer = await api.http.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, allowed)
    error_of(await api.http.options("/v1/nothing"), 404, "not_found")


async def test_no_page_of_another_origin_is_let_in(api: Api) -> None:
    headers = {"Origin": "http://other", "Access-Control-Request-Method": "POST"}
    for answer in [
        await api.http.options("/v1/jobs", headers=headers),
        await api.http.get("/healthz", headers=headers),
    ]:
        assert not [name for name in answer.headers if name.startswith("access-control")]
