"""Requests and results are kept byte for byte: whatever a client or a model sent is what others get."""

import pytest

from core.store import EventStore
from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.api.workers import Script

ODD = [
    pytest.param(b'{ "messages" :\t[ 1 ],\n\n  "x":1 }', id="whitespace"),
    pytest.param(rb'{"messages":["\u00e9\ud83d\ude00\/\u0000"]}', id="escapes"),
    pytest.param('{"messages":["é😀\u2028"]}'.encode(), id="UTF-8"),
    pytest.param(b'{"messages":[1],"seed":123456789012345678901234567890}', id="big integers"),
    pytest.param(b'{"messages":[1.0,1e2,-0.0,0.10000000000000000001]}', id="numbers"),
    pytest.param(b'{"messages":[1],"a":1,"a":2}', id="a key twice"),
    pytest.param(b'{"z":1,"messages":[1],"a":1}', id="order"),
    pytest.param(b'{"messages":[' + b"[" * 200 + b"]" * 200 + b"]}", id="depth"),
    pytest.param(b'{"messages":["' + b"x" * 1_000_000 + b'"]}', id="a megabyte"),
]


async def submit(api: Api, request: bytes) -> str:
    body = b'{"request" : ' + request + b' , "model":"echo"}'
    answer = await api.http.post("/v1/jobs", content=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize("request_", ODD)
async def test_a_request_is_kept_as_it_was(
    api: Api, idle_worker: None, store: EventStore, request_: bytes
) -> None:
    job_id = await submit(api, request_)
    events = await api.http.get(f"/v1/jobs/{job_id}/events")
    assert b'"request":' + request_ in events.content


async def test_the_model_gets_the_request_as_it_was(api: Api, script: Script) -> None:
    request = b'{ "messages" : ["\\u00e9"], "seed":123456789012345678901234567890 }'
    await submit(api, request)
    await script.called.wait()
    assert bytes(script.calls[0].request) == request


@pytest.mark.parametrize("result", ODD)
async def test_a_result_is_given_as_it_was(api: Api, script: Script, result: bytes) -> None:
    job_id = await api.submit()
    script.answer(result)
    assert (await api.job(job_id, wait=10))["status"] == "completed"
    answer = await api.http.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.content) == (200, result)
    assert answer.headers["content-type"] == "application/json"
    events = await api.http.get(f"/v1/jobs/{job_id}/events")
    assert b'"result":' + result in events.content


async def test_a_number_that_no_program_can_read_is_refused(api: Api, idle_worker: None) -> None:
    body = b'{"model":"echo","request":{"messages":[1e999]}}'
    error = error_of(await api.http.post("/v1/jobs", content=body), 422, "invalid_value")
    assert error["param"] == "request"
