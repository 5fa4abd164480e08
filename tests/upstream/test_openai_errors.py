"""What an OpenAI server may answer amiss, and the kind of error that each is."""

from typing import Any

import aiohttp
import msgspec
import pytest

from consumers.upstream.base import Call
from consumers.upstream.openai import OpenAIUpstream
from core.events import ErrorKind, Kind
from tests.servers import free_port
from tests.upstream.asking import PATIENT, Said, ask, call, fails
from tests.upstream.fake import Exchange, Script, answers, breaks_off, events, serving, streams

HELLO = [
    {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]
HTML = b"<!doctype html>\n<html><body>Welcome</body></html>\n"


def complains(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "some_error", "code": None}}


async def asked(script: Script, what: Call | None = None) -> Said:
    """Ask a server that answers by the script."""
    async with serving(script) as fake:
        upstream = OpenAIUpstream(fake.url, None, PATIENT)
        try:
            return await ask(upstream, what or call())
        finally:
            await upstream.aclose()


async def models_of(script: Script) -> frozenset[str]:
    async with serving(script) as fake:
        upstream = OpenAIUpstream(fake.url, None, PATIENT)
        try:
            return await upstream.models()
        finally:
            await upstream.aclose()


STATUSES: list[tuple[int, Any, ErrorKind]] = [
    (400, complains("messages is missing"), ErrorKind.BAD_REQUEST),
    (401, complains("Invalid API key"), ErrorKind.REJECTED),
    (403, {"detail": "Not for you"}, ErrorKind.REJECTED),
    (404, complains("The model `llama3.2` does not exist."), ErrorKind.UNKNOWN_MODEL),
    (404, {"detail": "Not Found"}, ErrorKind.BAD_REQUEST),
    (408, complains("Too slow"), ErrorKind.TIMEOUT),
    (422, {"detail": "n: must be at least 1"}, ErrorKind.BAD_REQUEST),
    (429, complains("Rate limit reached"), ErrorKind.OVERLOAD),
    (500, complains("Something broke"), ErrorKind.SERVER_ERROR),
    (500, complains("CUDA out of memory. Tried to allocate 2 GiB"), ErrorKind.OUT_OF_MEMORY),
    (500, complains("failed to allocate buffer for kv cache"), ErrorKind.OUT_OF_MEMORY),
    (501, complains("This server does not support embeddings"), ErrorKind.BAD_REQUEST),
    (502, {"message": "Bad gateway"}, ErrorKind.SERVER_ERROR),
    (503, complains("Loading model"), ErrorKind.OVERLOAD),
    (504, {"error": "Gateway timeout"}, ErrorKind.TIMEOUT),
]


@pytest.mark.parametrize(("status", "body", "kind"), STATUSES)
@pytest.mark.parametrize("asked_kind", [Kind.CHAT, Kind.EMBEDDINGS])
async def test_a_status_says_what_went_wrong(
    asked_kind: Kind, status: int, body: dict[str, Any], kind: ErrorKind
) -> None:
    said = body.get("detail") or body.get("message") or body["error"]
    words = said["message"] if isinstance(said, dict) else said
    with fails(kind, str(status), words):
        await asked(answers(status, body), call(asked_kind))


async def test_an_error_without_words_is_told_as_such() -> None:
    with fails(ErrorKind.SERVER_ERROR, "answered 500: nothing"):
        await asked(answers(500, b""))


async def test_a_long_error_is_told_in_part() -> None:
    with fails(ErrorKind.SERVER_ERROR) as failure:
        await asked(answers(500, b"\xffno" * 10_000))
    assert len(failure.error.message) < 1_000


DAY_MS = 24 * 60 * 60 * 1_000
RETRY_AFTER: list[tuple[str, int | None]] = [
    ("7", 7_000),
    ("0", 0),
    ("Wed, 21 Oct 2015 07:28:07 GMT", 7_000),  # The server's clock counts, not ours.
    ("Wed, 21 Oct 2015 07:27:00 GMT", 0),
    ("99999999999", DAY_MS),
    ("9" * 5_000, None),
    ("Wed, 21 Oct 2115 07:28:07 GMT", DAY_MS),
    ("soon", None),
    ("-1", None),
]


@pytest.mark.parametrize(("value", "wait_ms"), RETRY_AFTER)
async def test_retry_after_is_seconds_or_a_date_and_a_day_at_most(
    value: str, wait_ms: int | None
) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    with fails(ErrorKind.OVERLOAD) as failure:
        await asked(answers(429, complains("later"), retry_after=value, date=date))
    assert failure.error.retry_after_ms == wait_ms


async def test_a_date_to_retry_after_says_nothing_without_the_server_own_date() -> None:
    later = "Wed, 21 Oct 2115 07:28:07 GMT"
    with fails(ErrorKind.OVERLOAD) as failure:
        await asked(answers(503, complains("later"), retry_after=later))
    assert failure.error.retry_after_ms is None


async def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    upstream = OpenAIUpstream(f"http://127.0.0.1:{free_port()}", None, PATIENT)
    with fails(ErrorKind.CONNECT, upstream.address, "cannot be reached"):
        await ask(upstream, call())
    await upstream.aclose()


async def test_a_server_that_hangs_up_without_an_answer_is_a_lost_stream() -> None:
    async def hang_up(exchange: Exchange) -> None:
        pass

    with fails(ErrorKind.LOST_STREAM, "broke off"):
        await asked(hang_up)


async def test_a_server_that_speaks_no_http_is_a_lost_stream() -> None:
    async def speak_otherwise(exchange: Exchange) -> None:
        await exchange.raw(b"220 mail.example ESMTP\r\n\r\n")

    with fails(ErrorKind.LOST_STREAM, "broke off"):
        await asked(speak_otherwise)


async def test_a_failure_without_words_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reset(*_: object, **__: object) -> None:
        raise aiohttp.ServerDisconnectedError("")

    upstream = OpenAIUpstream("http://127.0.0.1:9", None, PATIENT)
    monkeypatch.setattr(aiohttp.ClientSession, "request", reset)
    with fails(ErrorKind.LOST_STREAM, "broke off: ServerDisconnectedError"):
        await ask(upstream, call())
    await upstream.aclose()


async def test_a_server_that_dies_in_mid_stream_is_a_lost_stream() -> None:
    with fails(ErrorKind.LOST_STREAM, "broke off"):
        await asked(breaks_off(events(*HELLO, done=False)))


async def test_a_stream_without_its_done_marker_is_a_lost_stream() -> None:
    with fails(ErrorKind.LOST_STREAM, "[DONE]"):
        await asked(streams(events(*HELLO, done=False)))


@pytest.mark.parametrize("chunks", [HELLO[:1], []])
async def test_a_stream_without_its_finish_reason_is_a_lost_stream(chunks: list[Any]) -> None:
    with fails(ErrorKind.LOST_STREAM, "finish reason"):
        await asked(streams(events(*chunks)))


async def test_one_choice_without_its_finish_reason_is_a_lost_stream() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "Hi"}, "finish_reason": None}]}
    with fails(ErrorKind.LOST_STREAM, "finish reason"):
        await asked(streams(events(other, *HELLO)))


async def test_an_error_in_mid_stream_is_a_server_error_that_says_it() -> None:
    with fails(ErrorKind.SERVER_ERROR, "mid-stream", "EngineCore died"):
        await asked(streams(events(HELLO[0], complains("EngineCore died"))))


async def test_a_full_gpu_in_mid_stream_is_out_of_memory() -> None:
    with fails(ErrorKind.OUT_OF_MEMORY):
        await asked(streams(events(HELLO[0], {"error": "HIP out of memory"})))


async def test_an_error_object_instead_of_a_stream_is_a_server_error() -> None:
    with fails(ErrorKind.SERVER_ERROR, "no such slot"):
        await asked(answers(200, complains("no such slot")))


GARBAGE = (
    b"{",
    b"\xff",
    b'{"choices":[{"delta":{"content":"\xff"}}]}',
    b"[1]",
    b'"Hello"',
    b'{"choices":"?"}',
    b'{"choices":[{"index":[]}]}',
    b'{"choices":[{"index":0,"delta":"Hello"}]}',
)


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_chunk_of_no_known_shape_is_a_server_error(garbage: bytes) -> None:
    with fails(ErrorKind.SERVER_ERROR):
        await asked(streams(events(garbage, *HELLO)))


async def test_a_web_page_instead_of_a_stream_is_a_server_error_that_shows_it() -> None:
    with fails(ErrorKind.SERVER_ERROR, "no stream of events", "<!doctype html>"):
        await asked(answers(200, HTML, content_type="text/html"))


@pytest.mark.parametrize("body", [HTML, b"{}", b"[]", b'{"data":"?"}', b'{"data":["\xff"]}'])
async def test_embeddings_that_are_none_are_a_server_error(body: bytes) -> None:
    with fails(ErrorKind.SERVER_ERROR, "no embeddings"):
        await asked(answers(200, body), call(Kind.EMBEDDINGS))


async def test_the_models_are_the_ids_of_the_list() -> None:
    listed = {"object": "list", "data": [{"id": "gemma", "object": "model"}, {"id": "qwen"}]}
    assert await models_of(answers(200, listed)) == {"gemma", "qwen"}


@pytest.mark.parametrize("body", [{}, [], {"data": None}, {"data": [{}]}, {"data": ["gemma"]}])
async def test_an_answer_that_lists_no_models_is_a_server_error(body: Any) -> None:
    with fails(ErrorKind.SERVER_ERROR, "list of models"):
        await models_of(answers(200, msgspec.json.encode(body)))


async def test_a_web_page_instead_of_the_models_is_a_server_error() -> None:
    with fails(ErrorKind.SERVER_ERROR, "not JSON"):
        await models_of(answers(200, HTML))


async def test_models_that_are_not_for_us_are_rejected() -> None:
    with fails(ErrorKind.REJECTED, "Invalid API key"):
        await models_of(answers(401, complains("Invalid API key")))
