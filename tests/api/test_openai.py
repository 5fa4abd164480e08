"""The OpenAI endpoints, by OpenAI's own client: answers, streams, errors, and callers that leave."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import openai
import pytest
from msgspec import Raw
from openai.types.chat import ChatCompletionMessageParam

from core.commands import Cancel, Claim, Complete, Lose
from core.events import Cancelled, ErrorKind, LostBecause, Timings
from core.keys import BELL
from core.output import Emitter, Write
from core.store import EventStore
from migrations.runner import migrate
from tests.api.conftest import CHAT, Api, OpenApi
from tests.api.errors import error_of
from tests.api.soon import listeners, soon
from tests.api.workers import Script
from tests.store.audit import audit

SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "one two three"}]


@pytest.fixture
async def caller(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.http.base_url}/v1", api_key="none", max_retries=0, timeout=20
    ) as client:
        yield client


def chunk(text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "echo",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


async def test_a_chat_completion_is_answered_and_names_its_job(
    caller: openai.AsyncOpenAI, api: Api, echo_worker: None
) -> None:
    raw = await caller.chat.completions.with_raw_response.create(model="echo", messages=SAY)
    answer = raw.parse()
    assert answer.choices[0].message.content == "one two three"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 6
    job = await api.job(raw.headers["x-job-id"])
    assert (job["status"], job["kind"]) == ("completed", "chat")


async def test_the_guide_s_curl_works_as_written(api: Api, echo_worker: None) -> None:
    body = '{"model":"echo","messages":[{"role":"user","content":"Test"}],"stream":false}'
    headers = {"Content-Type": "application/json"}
    answer = await api.http.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Test"


@pytest.mark.parametrize("wants_usage", [False, True])
async def test_a_stream_has_every_token_and_its_usage_only_if_asked(
    caller: openai.AsyncOpenAI, echo_worker: None, wants_usage: bool
) -> None:
    stream = await caller.chat.completions.create(
        model="echo",
        messages=SAY,
        stream=True,
        stream_options={"include_usage": wants_usage},
    )
    chunks = [chunk async for chunk in stream]
    said = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert said == "one two three"
    usages = [one.usage.total_tokens for one in chunks if one.usage]
    assert usages == ([6] if wants_usage else [])


async def test_completions_and_embeddings(caller: openai.AsyncOpenAI, echo_worker: None) -> None:
    completion = await caller.completions.create(model="echo", prompt="one two")
    assert completion.choices[0].text == "one two"
    texts = [
        one.choices[0].text
        async for one in await caller.completions.create(model="echo", prompt="a b", stream=True)
    ]
    assert "".join(texts) == "a b"
    embedded = await caller.embeddings.create(model="echo", input="x", encoding_format="float")
    assert len(embedded.data[0].embedding) == 8


async def test_the_models_are_those_that_living_workers_serve(
    caller: openai.AsyncOpenAI, echo_worker: None
) -> None:
    assert [model.id async for model in caller.models.list()] == ["echo"]


async def test_an_unknown_model_is_not_found(caller: openai.AsyncOpenAI, echo_worker: None) -> None:
    with pytest.raises(openai.NotFoundError, match="no worker serves"):
        await caller.chat.completions.create(model="nobody", messages=SAY)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_upstream_refuses_is_refused(
    caller: openai.AsyncOpenAI, script: Script, stream: bool
) -> None:
    script.fail(ErrorKind.BAD_REQUEST, "the prompt is too long")
    with pytest.raises(openai.BadRequestError, match="too long") as refused:
        await caller.chat.completions.create(model="echo", messages=SAY, stream=stream)
    assert refused.value.response.headers["x-should-retry"] == "false"


async def test_a_job_that_somebody_cancels_is_an_error_for_its_caller(
    caller: openai.AsyncOpenAI, store: EventStore, script: Script
) -> None:
    asking = asyncio.create_task(caller.chat.completions.create(model="echo", messages=SAY))
    await store.execute(await the_job(store), Cancel("operator"))
    with pytest.raises(openai.ConflictError, match="cancelled"):
        await asking


async def the_job(store: EventStore) -> str:
    """The one job that there is, once it is there."""
    async with asyncio.timeout(10):
        while True:
            for entry in await store.feed(0, "0-0"):
                if ":" not in entry.subject:
                    return entry.subject
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_while_its_job_is_queued_cancels_it(
    api: Api, store: EventStore, idle_worker: None, stream: bool
) -> None:
    body = {"model": "echo", "stream": stream, **CHAT}
    asking = asyncio.create_task(api.http.post("/v1/chat/completions", json=body))
    job_id = await the_job(store)
    asking.cancel()
    await is_cancelled_by_its_caller(store, job_id)
    await audit(store)  # Nothing of it waits in a lane.


async def is_cancelled_by_its_caller(store: EventStore, job_id: str) -> None:
    async with asyncio.timeout(10):
        while not isinstance((last := (await store.history(job_id))[-1].event), Cancelled):
            await asyncio.sleep(0.01)
    assert (last.by, last.reason) == ("caller", "the caller left")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_while_its_job_runs_stops_it(
    api: Api, store: EventStore, script: Script, stream: bool
) -> None:
    body = {"model": "echo", "stream": stream, **CHAT}
    script.say("hello")
    async with httpx.AsyncClient(base_url=api.http.base_url) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))
        await script.called.wait()
        job_id = await the_job(store)
        asking.cancel()
    await is_cancelled_by_its_caller(store, job_id)


async def test_a_caller_with_a_key_may_leave_and_come_back_for_the_answer(
    api: Api, store: EventStore, script: Script
) -> None:
    body, headers = {"model": "echo", **CHAT}, {"Idempotency-Key": "mine"}
    async with httpx.AsyncClient(base_url=api.http.base_url) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body, headers=headers))
        await script.called.wait()
        job_id = await the_job(store)
        asking.cancel()
    await soon(lambda: listeners(api, job_id) == 0)
    again = asyncio.create_task(api.http.post("/v1/chat/completions", json=body, headers=headers))
    await soon(lambda: listeners(api, job_id) == 1)
    script.answer(b'{"said":"all"}')
    answer = await again
    assert (answer.json(), answer.headers["x-job-id"]) == ({"said": "all"}, job_id)


async def test_a_submitted_job_whose_waiting_client_leaves_goes_on(
    api: Api, store: EventStore, script: Script
) -> None:
    async with httpx.AsyncClient(base_url=api.http.base_url) as http:
        body = {"model": "echo", "request": CHAT}
        asking = asyncio.create_task(
            http.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"})
        )
        await script.called.wait()
        job_id = await the_job(store)
        asking.cancel()
    script.answer()
    assert (await api.job(job_id, wait=10))["status"] == "completed"


async def test_what_does_not_end_in_time_is_told_and_goes_on(
    store: EventStore, open_api: OpenApi, script: Script
) -> None:
    api = await open_api(store, sync_timeout_seconds=1)
    answer = await api.http.post("/v1/chat/completions", json={"model": "echo", **CHAT})
    error = error_of(answer, 504, "not_finished_in_time")
    script.answer()
    assert (await api.job(error["job_id"], wait=10))["status"] == "completed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_waits_at_an_api_which_stops_is_told_its_job(
    api: Api, store: EventStore, script: Script, stream: bool
) -> None:
    body = {"model": "echo", "stream": stream, **CHAT}
    asking = asyncio.create_task(api.http.post("/v1/chat/completions", json=body))
    await script.called.wait()
    job_id = await the_job(store)
    await soon(lambda: listeners(api, job_id) == 1)
    api.bells.close()
    assert error_of(await asking, 503, "stopping")["job_id"] == job_id
    script.answer()
    assert (await api.job(job_id, wait=10))["status"] == "completed"


async def lose(store: EventStore, job_id: str, claim: int) -> None:
    await store.execute(job_id, Lose(claim, LostBecause.LEASE_RAN_OUT, deliveries_max=5))


async def test_a_worker_lost_before_the_first_token_is_never_noticed(
    caller: openai.AsyncOpenAI, store: EventStore, script: Script
) -> None:
    asking = asyncio.create_task(
        caller.chat.completions.create(model="echo", messages=SAY, stream=True)
    )
    await script.called.wait()
    job_id = await the_job(store)
    script.called.clear()
    await lose(store, job_id, 1)
    await script.called.wait()
    for piece in (chunk("hello"), chunk(None, "stop")):
        script.send(piece)
    script.answer(b'{"choices":[]}')
    said = [one.choices[0].delta.content async for one in await asking]
    assert said == ["hello", None]


async def test_a_worker_lost_after_it_ends_the_stream_with_an_error_that_names_the_job(
    caller: openai.AsyncOpenAI, store: EventStore, script: Script
) -> None:
    script.send(chunk("hello"))
    stream = await caller.chat.completions.create(model="echo", messages=SAY, stream=True)
    said = [(await anext(stream)).choices[0].delta.content]
    job_id = await the_job(store)
    await lose(store, job_id, 1)  # Nothing more is said by whoever takes it next.
    async with asyncio.timeout(20):
        with pytest.raises(openai.APIError, match="is lost") as broken:
            said += [one.choices[0].delta.content async for one in stream]
    assert said == ["hello"]
    assert isinstance(broken.value.body, dict)
    assert broken.value.body["job_id"] == job_id
    script.answer()


async def complete(store: EventStore, job_id: str, claim: int, *texts: str, chunks: int) -> None:
    """End a claim of `w`, with so much of its output there."""
    written = tuple(msgspec.json.encode(chunk(text)) for text in texts)
    if written:
        assert await Emitter(store, 1.0).emit(Write(job_id, claim, "w", 1, written))
    result = Raw(b'{"choices":[]}')
    await store.execute(job_id, Complete(claim, result, Timings(0), chunks=chunks))


async def streamed(api: Api, key: str) -> str:
    body = {"model": "echo", "stream": True, **CHAT}
    headers = {"Idempotency-Key": key}
    return (await api.http.post("/v1/chat/completions", json=body, headers=headers)).text


async def a_keyed_job(api: Api, store: EventStore, key: str) -> str:
    """A job that was asked for under a key, whose caller has left; `w` has claimed it."""
    asking = asyncio.create_task(streamed(api, key))
    job_id = await the_job(store)
    asking.cancel()
    await soon(lambda: listeners(api, job_id) == 0)
    await store.execute(job_id, Claim("w"))
    return job_id


async def test_a_stream_whose_output_is_not_all_there_does_not_pretend_to_be_whole(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    job_id = await a_keyed_job(api, store, "mine")
    await complete(store, job_id, 1, "one", "two", chunks=3)
    text = await streamed(api, "mine")
    assert "[DONE]" not in text
    assert f"/v1/jobs/{job_id}/result has all of it" in text


async def test_a_stream_whose_output_has_expired_is_the_answer_in_one_chunk(
    api: Api, store: EventStore, script: Script
) -> None:
    script.send(chunk("hel"))
    script.send(chunk("lo", "stop"))
    whole = {"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}
    script.answer(msgspec.json.encode({"id": "x", "choices": [whole]}))
    assert "hello" not in await streamed(api, "mine")
    job_id = await the_job(store)
    await store.client.delete(store.keys_of(job_id).output(job_id))
    text = await streamed(api, "mine")
    assert '"delta":{"content":"hello"}' in text
    assert text.rstrip().endswith("[DONE]")


async def test_who_comes_back_gets_the_attempt_that_counts_and_nothing_of_a_lost_one(
    api: Api, store: EventStore, idle_worker: None
) -> None:
    job_id = await a_keyed_job(api, store, "mine")
    lost = (msgspec.json.encode(chunk("lost")),)
    assert await Emitter(store, 1.0).emit(Write(job_id, 1, "w", 1, lost))
    await lose(store, job_id, 1)
    await store.execute(job_id, Claim("w"))
    await complete(store, job_id, 2, "kept", chunks=1)
    text = await streamed(api, "mine")
    assert "lost" not in text
    assert "kept" in text
    assert text.rstrip().endswith("[DONE]")


async def test_a_stream_outlasts_a_store_that_lacks_its_functions_for_a_while(
    caller: openai.AsyncOpenAI, store: EventStore, script: Script
) -> None:
    script.send(chunk("hello"))
    stream = await caller.chat.completions.create(model="echo", messages=SAY, stream=True)
    said = [(await anext(stream)).choices[0].delta.content]
    await store.client.execute_command("FUNCTION", "FLUSH")
    await store.client.publish(BELL + await the_job(store), "look")
    await asyncio.sleep(0.2)  # It has looked by now, and found no functions.
    await migrate(store.client)
    script.send(chunk(None, "stop"))
    script.answer(b'{"choices":[]}')
    said += [one.choices[0].delta.content async for one in stream]
    assert said == ["hello", None]
