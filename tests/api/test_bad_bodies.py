"""A submission that is no JSON is 400, one that is no job is 422 and names the field."""

from collections.abc import AsyncIterator

import pytest

from core.store import EventStore
from tests.api.conftest import CHAT, Api, OpenApi
from tests.api.errors import error_of

pytestmark = pytest.mark.usefixtures("idle_worker")

DEEP = b"[" * 100_000 + b"]" * 100_000


def a_body(request: bytes) -> bytes:
    return b'{"model":"echo","request":' + request + b"}"


async def test_what_is_not_json_is_malformed(api: Api) -> None:
    for body in [
        b"{",  # cut short
        b"hello",
        a_body(b'{"messages":[1]}') + b"trailing",
        a_body(b'{"messages":[1],"x":NaN}'),
        a_body(b'{"messages":[1],"x":Infinity}'),
        b'{"model":"echo","delay_seconds":NaN}',  # NaN for a field
        a_body(DEEP),  # 100,000 brackets as the request
        a_body(b'{"messages":' + DEEP + b"}"),  # 100,000 brackets in the request
        b'{"model":"\xff\xfe"}',
        a_body(b'{"messages":["\xff"]}'),  # not UTF-8 in the request
        '{"model":"echo"}'.encode("utf-16"),
    ]:
        error_of(await api.http.post("/v1/jobs", content=body), 400, "invalid_json")


async def test_an_empty_body_is_malformed_and_the_answer_says_that_it_is_empty(api: Api) -> None:
    error = error_of(await api.http.post("/v1/jobs"), 400, "invalid_json")
    assert error["message"] == "the body is empty; it takes JSON"


async def test_a_wrong_value_names_its_field(api: Api) -> None:
    for field, value, says in [
        ("model", 7, "Expected `str`"),  # a number for a text
        ("model", "", "takes 1 to"),
        ("model", "two words", "takes 1 to"),  # a model with a space
        ("model", "echo\n", "takes 1 to"),  # a model that ends with a newline
        ("model", "m" * 257, "takes 1 to"),  # a long model
        ("queue", "a:b", "takes 1 to"),  # a queue with a colon
        ("queue", "a\n", "takes 1 to"),  # a queue that ends with a newline
        ("queue", "q" * 65, "takes 1 to"),  # a long queue
        ("delay_seconds", "5", "Expected `float`"),  # a text for a number
        ("delay_seconds", -1, ">= 0"),  # a negative delay
        ("delay_seconds", 1e300, "<= 31622400"),  # a delay of ages
        ("deadline_seconds", 0, "> 0"),  # a deadline of nothing
        ("timeout_seconds", 86_401, "<= 86400"),  # a timeout of more than a day
        ("max_attempts", 0, ">= 1"),  # no attempt
        ("max_attempts", 1.5, "Expected `int"),  # one attempt and a half
        ("max_attempts", 101, "<= 100"),  # too many attempts
        ("metadata", [], "Expected `object`"),  # a list for metadata
        ("metadata", {str(i): "" for i in range(17)}, "<= 16"),  # much metadata
    ]:
        error = error_of(await api.post(**{field: value}), 422, "invalid_value")
        assert error["param"] == field
        assert error["message"].startswith(f"{field}: ")
        assert says in error["message"]


async def test_wrong_metadata_names_the_field(api: Api) -> None:
    for metadata in [{"key": 7}, {"k" * 65: "value"}, {"key": "v" * 513}]:
        error = error_of(await api.post(metadata=metadata), 422, "invalid_value")
        assert error["param"].startswith("metadata")


async def test_an_unknown_field_is_named_with_those_there_are(api: Api) -> None:
    error = error_of(await api.post(temperature=1), 422, "invalid_value")
    assert error["param"] == "temperature"
    assert error["message"] == (
        "temperature: unknown field; takes model, request, kind, queue, priority, delay_seconds, "
        "deadline_seconds, timeout_seconds, max_attempts, metadata"
    )


async def test_a_missing_field_is_named(api: Api) -> None:
    for field, other in [("model", "request"), ("request", "model")]:
        body = {"model": "echo", "request": CHAT}
        answer = await api.http.post("/v1/jobs", json={other: body[other]})
        error = error_of(answer, 422, "invalid_value")
        assert (error["param"], error["message"]) == (field, f"{field}: is required")


async def test_a_wrong_choice_is_told_the_choices(api: Api) -> None:
    for field, choices in [
        ("kind", "chat, completions, embeddings"),
        ("priority", "high, normal, low"),
    ]:
        error = error_of(await api.post(**{field: "best"}), 422, "invalid_value")
        assert error["param"] == field
        assert error["message"] == f"{field}: Invalid enum value 'best'; takes {choices}"


async def test_json_that_is_no_object_is_invalid(api: Api) -> None:
    for body in [b"[]", b"null", b'"text"', b"7", DEEP]:
        error = error_of(await api.http.post("/v1/jobs", content=body), 422, "invalid_value")
        assert "Expected `object`" in error["message"]


async def test_a_request_is_an_object(api: Api) -> None:
    for request_ in [[], "hello", 7, None]:
        error = error_of(await api.post(request=request_), 422, "invalid_value")
        assert error["param"] == "request"
        assert error["message"].startswith("request: takes the JSON object")


async def test_a_request_has_what_its_kind_needs(api: Api) -> None:
    for kind, request_, needs in [
        ("chat", {}, "messages"),
        ("chat", {"messages": []}, "messages"),
        ("chat", {"prompt": "hello"}, "messages"),
        ("completions", {"messages": [1]}, "prompt"),
        ("completions", {"prompt": ""}, "prompt"),
        ("embeddings", {"input": None}, "input"),
    ]:
        error = error_of(await api.post(kind=kind, request=request_), 422, "invalid_value")
        assert error["param"] == f"request.{needs}"
        assert error["message"] == (
            f"request: a {kind} request needs '{needs}', and it must not be empty"
        )


async def test_a_body_over_the_limit_is_too_large(open_api: OpenApi, store: EventStore) -> None:
    api = await open_api(store, max_body_bytes=2_048)
    long = {"messages": [{"role": "user", "content": "x" * 2_048}]}
    error_of(await api.post(request=long), 413, "body_too_large")


async def test_a_body_over_the_limit_is_too_large_without_a_length_too(
    open_api: OpenApi, store: EventStore
) -> None:
    api = await open_api(store, max_body_bytes=2_048)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 1_024

    error_of(await api.http.post("/v1/jobs", content=parts()), 413, "body_too_large")
