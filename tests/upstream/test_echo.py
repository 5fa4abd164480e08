"""The echo: the same words for the same request, and as many as it is told."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from consumers.upstream.base import Call
from consumers.upstream.echo import MODEL, EchoUpstream
from core.events import ErrorKind, Kind, Usage
from tests.upstream.asking import Said, ask, call, fails


async def asked(address: str, what: Call) -> Said:
    upstream = EchoUpstream(address)
    try:
        return await ask(upstream, what)
    finally:
        await upstream.aclose()


def chat(*contents: Any) -> Call:
    return call(messages=[{"role": "user", "content": content} for content in contents])


async def test_it_serves_the_one_model_echo() -> None:
    assert await EchoUpstream("echo://").models() == {MODEL}


async def test_a_chat_repeats_the_words_of_the_last_message() -> None:
    said = await asked("echo://", chat("not these", "one two three"))
    assert said.choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "one two three"},
        "finish_reason": "stop",
    }
    assert said.fields["object"] == "chat.completion"
    assert said.usage == Usage(3, 3, 6)


async def test_a_completion_repeats_the_words_of_the_prompt() -> None:
    said = await asked("echo://", call(Kind.COMPLETIONS, prompt="one two"))
    assert said.choice == {"index": 0, "text": "one two", "finish_reason": "stop"}
    assert said.fields["object"] == "text_completion"


async def test_every_word_is_a_chunk_and_the_end_is_one_more() -> None:
    said = await asked("echo://", chat("one two three"))
    choices = [msgspec.json.decode(chunk)["choices"][0] for chunk in said.chunks]
    assert [choice["delta"]["content"] for choice in choices] == ["one", " two", " three", ""]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]


@pytest.mark.parametrize("kind", list(Kind))
async def test_the_same_request_gives_the_same_bytes(kind: Kind) -> None:
    first, second = [await asked("echo://?tokens=5", call(kind)) for _ in range(2)]
    assert first == second


async def test_other_inputs_have_other_embeddings() -> None:
    one, other = [await asked("echo://", call(Kind.EMBEDDINGS, input=text)) for text in "ab"]
    assert one.fields["data"][0]["embedding"] != other.fields["data"][0]["embedding"]
    assert one.chunks == []
    assert one.usage == Usage(1, 0, 1)


@pytest.mark.parametrize("tokens", [0, 1, 7])
async def test_it_says_as_many_tokens_as_it_is_told(tokens: int) -> None:
    said = await asked(f"echo://?tokens={tokens}", chat("one two"))
    words = said.choice["message"]["content"].split()
    assert words == (["one", "two"] * 4)[:tokens]
    assert said.usage == Usage(2, tokens, 2 + tokens)


async def test_a_message_that_is_empty_or_in_parts_is_answered_too() -> None:
    assert (await asked("echo://", chat(""))).choice["message"]["content"] == "nothing"
    parts = [{"type": "text", "text": "hi"}]
    said = await asked("echo://", chat(parts))
    assert msgspec.json.decode(said.choice["message"]["content"]) == parts


async def test_it_keeps_to_its_latency_and_its_pace() -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    await asked("echo://?latency_ms=30&tokens=3&tokens_per_second=100", chat("Hello?"))
    assert clock() - started >= 0.03 + 3 / 100 - 0.005


BAD_ADDRESSES = [
    ("echo://?tokens=many", "tokens"),
    ("echo://?tokens=", "tokens"),
    ("echo://?tokens=-1", "tokens"),
    ("echo://?latency_ms=soon", "latency_ms"),
    ("echo://?latency_ms=-1", "latency_ms"),
    ("echo://?latency_ms=nan", "latency_ms"),
    ("echo://?latency_ms=inf", "latency_ms"),
    ("echo://?tokens_per_second=0", "tokens_per_second"),
    ("echo://?tokens_per_second=nan", "tokens_per_second"),
    ("echo://?token=5", "token"),
]


@pytest.mark.parametrize(("address", "name"), BAD_ADDRESSES)
def test_a_wrong_parameter_of_the_address_is_named(address: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        EchoUpstream(address)


BAD_REQUESTS = [
    (Kind.CHAT, b"{}"),
    (Kind.CHAT, b"[]"),
    (Kind.CHAT, b'{"messages":[]}'),
    (Kind.CHAT, b'{"messages":[{"role":"user"}]}'),
    (Kind.COMPLETIONS, b'{"messages":[]}'),
    (Kind.EMBEDDINGS, b'{"prompt":"Hello"}'),
    (Kind.COMPLETIONS, b'{"prompt":"\xff"}'),
]


@pytest.mark.parametrize(("kind", "request_body"), BAD_REQUESTS)
async def test_a_request_of_another_shape_is_a_bad_request(kind: Kind, request_body: bytes) -> None:
    with fails(ErrorKind.BAD_REQUEST, f"shape of a {kind} request"):
        await asked("echo://", Call(kind, MODEL, Raw(request_body)))
