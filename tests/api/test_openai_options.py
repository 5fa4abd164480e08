"""What callers of OpenAI's endpoints say in headers, and are told in them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from api.openai import stream as openai_stream
from core.events import Cancelled, ErrorKind
from core.log import tag_of
from core.store import EventStore
from tests.api.conftest import CHAT, Api, OpenApi
from tests.api.errors import error_of
from tests.api.soon import listeners, soon
from tests.api.workers import Script, a_worker

SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "one two three"}]
ASK = {"model": "echo", **CHAT}


@pytest.fixture
async def caller(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.http.base_url}/v1", api_key="none", max_retries=0, timeout=20
    ) as client:
        yield client


async def ask(api: Api, headers: dict[str, str] | None = None, /, **fields: Any) -> httpx.Response:
    """Ask for a chat completion of the echo model, but for `fields`."""
    return await api.http.post("/v1/chat/completions", json=ASK | fields, headers=headers)


async def test_a_caller_may_choose_how_its_job_waits_and_runs(
    caller: openai.AsyncOpenAI, api: Api, store: EventStore, echo_worker: None
) -> None:
    wishes = {
        "X-Respool-Queue": "nightly",
        "X-Respool-Priority": "low",
        "X-Respool-Deadline-Seconds": "90",
        "X-Respool-Timeout-Seconds": "2.5",
    }
    raw = await caller.chat.completions.with_raw_response.create(
        model="echo", messages=SAY, extra_headers=wishes
    )
    view = await store.view(raw.headers["x-job-id"])
    assert view is not None
    assert view.submitted is not None
    job = view.submitted
    assert (job.queue, job.priority.value) == ("nightly", "low")
    assert (job.deadline_ms, job.timeout_ms) == (90_000, 2_500)


WRONG = [
    ("x-respool-queue", "no spaces", "a queue's name"),
    ("x-respool-priority", "urgent", "takes high, normal or low"),
    ("x-respool-on-timeout", "stop", "takes continue or cancel"),
    ("x-respool-deadline-seconds", "soon", "takes a number of seconds"),
    ("x-respool-timeout-seconds", "-1", "takes a number of seconds"),
    ("x-respool-timeout-seconds", "nan", "takes a number of seconds"),
    ("x-respool-prio", "high", "there is no such header; there are x-respool-queue, "),
    ("idempotency-key", "", "takes 1 to 255 characters"),
    ("idempotency-key", "k" * 256, "takes 1 to 255 characters"),
]


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
async def test_a_header_that_is_wrong_is_named_with_what_it_takes(
    api: Api, echo_worker: None, name: str, value: str, says: str
) -> None:
    error = error_of(await ask(api, {name: value}), 422, "invalid_value")
    assert error["param"] == name
    assert error["message"].startswith(f"{name}: ")
    assert says in error["message"]


async def test_every_header_is_in_the_document(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        named = {one["name"] for one in document["paths"][path]["post"]["parameters"]}
        assert named >= {name for name, *_ in WRONG} - {"x-respool-prio"}


async def test_what_is_not_done_in_time_is_cancelled_if_its_caller_said_so(
    store: EventStore, open_api: OpenApi, script: Script
) -> None:
    api = await open_api(store, sync_timeout_seconds=1)
    answer = await ask(api, {"x-respool-on-timeout": "cancel"})
    error = error_of(answer, 504, "not_finished_in_time")
    assert "is being cancelled" in error["message"]
    assert answer.headers["x-job-id"] == error["job_id"]
    assert (await api.job(error["job_id"], wait=10))["status"] == "cancelled"
    last = (await store.history(error["job_id"]))[-1].event
    assert isinstance(last, Cancelled)
    assert last.reason == "the caller's time was over"


@pytest.mark.usefixtures("idle_worker", "projector")
async def test_who_is_told_that_it_takes_too_long_is_told_its_place_in_line(
    store: EventStore, open_api: OpenApi
) -> None:
    api = await open_api(store, sync_timeout_seconds=1)
    first, second = await api.submit(), await ask(api)
    error = error_of(second, 504, "not_finished_in_time")
    assert (second.headers["x-queue-position"], error["job_id"] != first) == ("2", True)
    assert "queued at position 2; the job goes on" in error["message"]


@pytest.mark.usefixtures("idle_worker", "projector")
async def test_a_stream_that_waits_says_where_it_stands(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_stream, "COMMENT_EVERY_SECONDS", 0.3)
    await api.submit()
    async with api.http.stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as told:
        assert told.headers["x-queue-position"] == "2"
        assert told.headers["x-job-id"]
        lines = told.aiter_lines()
        assert (await anext(lines)).startswith(": queued, position 2")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_names_its_job(api: Api, script: Script, stream: bool) -> None:
    script.fail(ErrorKind.BAD_REQUEST, "no")
    answer = await ask(api, stream=stream)
    error = error_of(answer, 400, "bad_request")
    assert answer.headers["x-job-id"] == error["job_id"]
    assert (await api.job(error["job_id"]))["status"] == "failed"


TOO_LONG = (
    "the request exceeds the available context size, try increasing it",  # llama.cpp
    "This model's maximum context length is 4096 tokens. However, you requested 5000",  # vLLM
    "The decoder prompt (length 9) is longer than the maximum model length of 8",  # vLLM
    "the input length exceeds the context length",  # Ollama
)
CODES = [
    *((ErrorKind.BAD_REQUEST, words, 400, "context_length_exceeded") for words in TOO_LONG),
    (ErrorKind.BAD_REQUEST, "messages is missing", 400, "bad_request"),
    (ErrorKind.REJECTED, "context size", 502, "rejected"),
]


@pytest.mark.parametrize(("kind", "message", "status", "code"), CODES)
async def test_the_codes_that_clients_branch_on_are_openai_s(
    api: Api, script: Script, kind: ErrorKind, message: str, status: int, code: str
) -> None:
    script.fail(kind, message)
    answer = await ask(api)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_model_that_the_upstream_does_not_know_is_not_found(
    store: EventStore, open_api: OpenApi, script: Script
) -> None:
    api = await open_api(store, max_attempts=1)
    script.fail(ErrorKind.UNKNOWN_MODEL, "who?")
    error_of(await ask(api), 404, "model_not_found")


async def gone(store: EventStore) -> None:
    """Nobody serves anything any more, and nobody ever did."""
    await store.client.delete(store.shards[0].subjects)


async def test_who_comes_back_gets_the_answer_though_its_model_is_gone(
    store: EventStore, api: Api, open_api: OpenApi, echo_worker: None
) -> None:
    key = {"Idempotency-Key": "mine"}
    first = await ask(api, key)
    await gone(store)
    later = await open_api(store)
    again = await ask(later, key)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["x-job-id"] == first.headers["x-job-id"]
    error_of(await ask(later, key, seed=1), 422, "idempotency_key_reused")
    error_of(await ask(later, {"Idempotency-Key": "other"}), 404, "model_not_found")


async def test_a_stream_that_is_asked_for_again_begins_anew(api: Api, echo_worker: None) -> None:
    key = {"Idempotency-Key": "mine"}
    first, again = [await ask(api, key, stream=True) for _ in range(2)]
    assert "[DONE]" in first.text
    assert again.text == first.text


async def test_a_model_is_shown_by_its_name_slashes_and_all(
    caller: openai.AsyncOpenAI, api: Api, store: EventStore
) -> None:
    await a_worker(store, "one", "meta/llama-3:8b", "plain")
    await a_worker(store, "two", "old", is_alive=False)
    for name in ("meta/llama-3:8b", "plain"):
        model = await caller.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (name, "model", "respool")
        assert model.created > 0
    for name in ("old", "meta"):
        with pytest.raises(openai.NotFoundError, match="served are: meta/llama-3:8b, plain") as no:
            await caller.models.retrieve(name)
        assert no.value.code == "model_not_found"


async def test_the_models_are_the_union_of_what_living_workers_serve(
    caller: openai.AsyncOpenAI, store: EventStore
) -> None:
    await a_worker(store, "one", "a", "b")
    await a_worker(store, "two", "b", "c")
    await a_worker(store, "three", "d", is_alive=False)
    assert [model.id async for model in caller.models.list()] == ["a", "b", "c"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_after_its_answer_changes_nothing(
    api: Api, store: EventStore, echo_worker: None, stream: bool
) -> None:
    async with httpx.AsyncClient(base_url=api.http.base_url) as http:
        answer = await http.post("/v1/chat/completions", json=ASK | {"stream": stream})
    job_id = answer.headers["x-job-id"]
    await soon(lambda: listeners(api, job_id) == 0)
    history = await store.history(job_id)
    assert [tag_of(entry.event) for entry in history] == ["submitted", "claimed", "completed"]
