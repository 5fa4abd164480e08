"""OpenAI's own client against everything on one machine, with a real model: it notices no difference."""

import base64
import struct
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from tests.clients.conftest import (
    CHAT_MODEL,
    EMBEDDINGS_MODEL,
    QUEUE_LIMIT,
    Site,
    needs_demo_model,
    until,
)
from tests.clients.embeddings_server import NUMBERS

pytestmark = needs_demo_model

ASK: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France?"}
]
TOKENS = 7  # The capital of France is Paris.
# As many as would take far longer than the test: the base model goes on and on, for nothing it says
# is where it stops.
LONG_TOKENS = 2_000
LONG: dict[str, Any] = {"model": CHAT_MODEL, "messages": ASK, "max_tokens": LONG_TOKENS}
LONG |= {"stop": ["nothing that it says"], "extra_body": {"ignore_eos": True}}
WATCHED_SECONDS = 0.5


def chat(client: openai.OpenAI, **fields: Any) -> ChatCompletion:
    usual = {"model": CHAT_MODEL, "messages": ASK, "max_tokens": TOKENS}
    asked: dict[str, Any] = usual | fields
    completion: ChatCompletion = client.chat.completions.create(**asked)
    return completion


def fields_of(value: Any) -> Any:
    """The names in a JSON value and in all that is in it, without what they stand for."""
    match value:
        case dict():
            return {name: fields_of(inner) for name, inner in value.items()}
        case list():
            return [fields_of(inner) for inner in value[:1]]
        case _:
            return None


def test_a_chat_is_answered_field_by_field_as_the_model_itself_would(site: Site) -> None:
    wishes = {"temperature": 0, "logprobs": True, "top_logprobs": 2, "seed": 1}
    with site.client() as client:
        said = chat(client, **wishes)
    with openai.OpenAI(base_url=f"{site.model_url}/v1", api_key="none") as direct:
        expected = chat(direct, **wishes)
    assert "Paris" in (said.choices[0].message.content or "")
    assert fields_of(said.to_dict()) == fields_of(expected.to_dict())
    [choice], [same] = said.choices, expected.choices
    assert (choice.message, choice.finish_reason) == (same.message, same.finish_reason)
    assert choice.logprobs is not None
    assert same.logprobs is not None
    tokens = [token.token for token in choice.logprobs.content or ()]
    assert "".join(tokens) == choice.message.content
    assert tokens == [token.token for token in same.logprobs.content or ()]
    assert said.usage is not None
    assert expected.usage is not None
    assert said.usage.total_tokens == expected.usage.total_tokens


def test_a_stream_says_what_the_whole_answer_says_and_its_usage_last(site: Site) -> None:
    with site.client() as client:
        whole = chat(client, temperature=0)
        chunks = list(
            client.chat.completions.create(
                model=CHAT_MODEL,
                messages=ASK,
                max_tokens=TOKENS,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    *said, last = chunks
    assert "".join(one.choices[0].delta.content or "" for one in said) == (
        whole.choices[0].message.content
    )
    assert said[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert {one.id for one in chunks} == {last.id}
    assert {one.object for one in chunks} == {"chat.completion.chunk"}


async def test_the_async_client_streams_and_waits_alike(site: Site) -> None:
    wishes: dict[str, Any] = {"model": CHAT_MODEL, "messages": ASK, "max_tokens": 4}
    async with site.async_client() as client:
        whole = await client.chat.completions.create(**wishes, temperature=0)
        stream = await client.chat.completions.create(**wishes, temperature=0, stream=True)
        said = [one.choices[0].delta.content or "" async for one in stream]
        raw = await client.chat.completions.with_raw_response.create(**wishes)
    assert "".join(said) == whole.choices[0].message.content
    assert site.job(raw.headers["x-job-id"])["status"] == "completed"


def test_several_choices_and_a_format_come_back_whole(site: Site) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with site.client() as client:
        two = chat(client, n=2, max_tokens=2)
        shaped = chat(client, response_format=form, max_tokens=30)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert all(choice.message.content for choice in two.choices)
    assert "".join((shaped.choices[0].message.content or "").split()) in {
        '{"a":true}',
        '{"a":false}',
    }


def test_a_completion_is_answered_and_streamed(site: Site) -> None:
    wishes: dict[str, Any] = {"model": CHAT_MODEL, "prompt": "1, 2, 3,", "max_tokens": 3}
    with site.client() as client:
        whole = client.completions.create(**wishes, temperature=0)
        stream = client.completions.create(**wishes, temperature=0, stream=True)
        assert "".join(one.choices[0].text for one in stream) == whole.choices[0].text
    assert (whole.object, whole.choices[0].finish_reason) == ("text_completion", "length")


def test_embeddings_come_from_the_worker_that_serves_them(site: Site) -> None:
    with site.client() as client:
        packed = client.embeddings.create(model=EMBEDDINGS_MODEL, input=["sea", "ship"])
        plain = client.embeddings.create(
            model=EMBEDDINGS_MODEL, input="sea", encoding_format="float"
        )
        raw = client.embeddings.with_raw_response.create(
            model=EMBEDDINGS_MODEL, input="sea", encoding_format="base64"
        )
    assert [len(one.embedding) for one in packed.data] == [NUMBERS, NUMBERS]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-4)
    data = base64.b64decode(raw.http_response.json()["data"][0]["embedding"])
    assert len(struct.unpack(f"<{NUMBERS}f", data)) == NUMBERS
    assert plain.usage.prompt_tokens > 0


def test_the_models_are_those_of_both_workers(site: Site) -> None:
    with site.client() as client:
        assert [model.id for model in client.models.list()] == [CHAT_MODEL, EMBEDDINGS_MODEL]
        assert client.models.retrieve(CHAT_MODEL).id == CHAT_MODEL
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-5")


def test_what_is_wrong_with_a_request_is_a_typed_error(site: Site) -> None:
    with site.client() as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            chat(client, model="gpt-5")
        with pytest.raises(openai.BadRequestError) as too_long:
            chat(client, messages=[{"role": "user", "content": "word " * 3_000}])
        with pytest.raises(openai.UnprocessableEntityError, match="messages"):
            chat(client, messages=[])
        with pytest.raises(openai.BadRequestError, match="embedding"):
            client.embeddings.create(model=CHAT_MODEL, input="sea")
    assert unknown.value.code == "model_not_found"
    assert too_long.value.code == "context_length_exceeded"
    assert too_long.value.type == "invalid_request_error"
    assert site.job(too_long.value.response.headers["x-job-id"])["status"] == "failed"


def test_a_full_queue_is_a_rate_limit_after_the_client_s_own_retries(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpx.post(f"{site.url}/v1/queues/full/pause").raise_for_status()
    body = {"model": CHAT_MODEL, "queue": "full", "request": {"messages": ASK}}
    for _ in range(QUEUE_LIMIT):
        httpx.post(f"{site.url}/v1/jobs", json=body).raise_for_status()
    waits: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", waits.append)  # It would be a minute.
    with site.client(max_retries=1) as client, pytest.raises(openai.RateLimitError) as full:
        chat(client, extra_headers={"x-respool-queue": "full"})
    assert full.value.code == "queue_full"
    [waited] = waits
    assert 1 <= waited <= 60
    assert full.value.request.headers["x-stainless-retry-count"] == "1"
    assert 1 <= int(full.value.response.headers["retry-after"]) <= 60


def stops_generating(site: Site, before: int) -> None:
    """See llama.cpp come to rest long before it would be done, and stay there."""
    until(lambda: not site.is_generating())
    stopped = site.decoded()
    assert before < stopped < before + LONG_TOKENS / 2
    with pytest.raises(AssertionError):
        until(lambda: site.decoded() > stopped, WATCHED_SECONDS)


def test_a_client_whose_time_is_over_stops_the_generation(site: Site) -> None:
    before = site.decoded()
    with site.client() as client:
        impatient = client.with_options(timeout=1)
        with pytest.raises(openai.APITimeoutError):
            impatient.chat.completions.create(**LONG)
    stops_generating(site, before)


@pytest.mark.parametrize("leaves", ["the stream", "the client"])
def test_a_stream_closed_half_way_stops_the_generation(site: Site, leaves: str) -> None:
    before = site.decoded()
    client = site.client()
    raw = client.chat.completions.with_raw_response.create(**LONG, stream=True)
    stream = raw.parse()
    for _ in range(3):
        next(stream)
    assert site.is_generating()
    (stream if leaves == "the stream" else client).close()
    stops_generating(site, before)
    assert site.job(raw.headers["x-job-id"])["status"] == "cancelled"
    client.close()
