"""OpenAI's dialect: what is sent on, and how a stream becomes chunks and one answer."""

from typing import Any

import msgspec
from msgspec import Raw

from consumers.upstream.base import Call
from consumers.upstream.openai import OpenAIUpstream
from core.events import ErrorKind, Kind, Usage
from tests.upstream.asking import PATIENT, Said, ask, call, fails
from tests.upstream.fake import Exchange, Script, answers, events, serving, streams

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def chunk(*choices: Any, **fields: Any) -> dict[str, Any]:
    """A chunk as llama.cpp's server sends it."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "gemma"}
    return head | {"choices": list(choices)} | fields


def delta(index: int = 0, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish_reason}


HELLO = (
    chunk(delta(role="assistant", content=None)),
    chunk(delta(content="Hel")),
    chunk(delta(content="lo — 你好")),
    chunk(delta(finish_reason="stop")),
    chunk(usage=USAGE),
)


async def asked(script: Script, what: Call | None = None) -> Said:
    """Ask a server that answers by the script."""
    async with serving(script) as fake:
        upstream = OpenAIUpstream(fake.url, None, PATIENT)
        try:
            return await ask(upstream, what or call())
        finally:
            await upstream.aclose()


async def sent_on(what: Call, api_key: str | None = None) -> Exchange:
    """What the server is asked for such a call."""
    async with serving(streams(events(*HELLO))) as fake:
        upstream = OpenAIUpstream(fake.url, api_key, PATIENT)
        await ask(upstream, what)
        await upstream.aclose()
        return fake.asked


async def test_the_answer_is_the_body_that_the_server_would_have_sent_unstreamed() -> None:
    said = await asked(streams(events(*HELLO)))
    assert said.fields == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "gemma",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello — 你好"},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
    assert said.usage == Usage(9, 3, 12)


async def test_chunks_come_through_byte_for_byte_and_the_usage_chunk_does_not() -> None:
    odd = b'{"choices" : [ {"index":0, "delta":{"content":"\\u0048i"},"finish_reason":"stop"} ], "x":1.0}'
    said = await asked(streams(events(odd, chunk(usage=USAGE))))
    assert said.chunks == [odd]
    assert said.choice["message"]["content"] == "Hi"


async def test_lines_are_found_however_the_network_cuts_them() -> None:
    whole = b"".join(events(*HELLO)).replace(b"\n\n", b"\r\n\r\n")
    said = await asked(streams([whole[at : at + 1] for at in range(len(whole))]))
    assert said.choice["message"]["content"] == "Hello — 你好"
    assert said.chunks == [msgspec.json.encode(one) for one in HELLO[:-1]]


async def test_comments_and_other_fields_of_the_event_stream_are_passed_over() -> None:
    first, *others = events(*HELLO)
    noise = b": ping\n\nevent: message\nid: 1\nretry: 100\n"
    said = await asked(streams([noise, first, noise, *others]))
    assert len(said.chunks) == len(HELLO) - 1


async def test_several_choices_are_kept_apart_and_in_order() -> None:
    said = await asked(
        streams(
            events(
                chunk(delta(1, content="b"), delta(0, content="a")),
                chunk(delta(0, "stop", content="A")),
                chunk(delta(1, "length", content="B")),
            )
        )
    )
    texts = [(one["index"], one["message"]["content"]) for one in said.fields["choices"]]
    assert texts == [(0, "aA"), (1, "bB")]
    assert [one["finish_reason"] for one in said.fields["choices"]] == ["stop", "length"]


async def test_tool_calls_are_merged_by_index() -> None:
    def tool(index: int, **fields: Any) -> dict[str, Any]:
        return delta(tool_calls=[{"index": index} | fields])

    said = await asked(
        streams(
            events(
                chunk(tool(0, id="a", type="function", function={"name": "add", "arguments": ""})),
                chunk(tool(0, function={"arguments": '{"x"'})),
                chunk(tool(1, id="b", type="function", function={"name": "now", "arguments": ""})),
                chunk(tool(0, function={"arguments": ":1}"})),
                chunk(tool(1, function={"arguments": "{}"})),
                chunk(delta(finish_reason="tool_calls")),
            )
        )
    )
    assert said.choice["finish_reason"] == "tool_calls"
    assert said.choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }


async def test_reasoning_is_kept_beside_the_content() -> None:
    said = await asked(
        streams(
            events(
                chunk(delta(reasoning_content="Let me ")),
                chunk(delta(reasoning_content="think.")),
                chunk(delta(finish_reason="stop", content="42")),
            )
        )
    )
    assert said.choice["message"]["reasoning_content"] == "Let me think."
    assert said.choice["message"]["content"] == "42"


async def test_a_server_that_does_not_count_gives_no_usage() -> None:
    said = await asked(streams(events(chunk(delta(finish_reason="stop", content="Hi")))))
    assert said.usage is None
    assert "usage" not in said.fields


async def test_completions_are_folded_from_their_texts() -> None:
    pieces = [
        chunk({"index": 0, "text": text, "finish_reason": reason}, object="text_completion")
        for text, reason in (("Hel", None), ("lo", "length"))
    ]
    said = await asked(streams(events(*pieces)), call(Kind.COMPLETIONS))
    assert said.fields["object"] == "text_completion"
    assert said.choice == {"index": 0, "text": "Hello", "finish_reason": "length"}


async def test_embeddings_come_in_one_piece_byte_for_byte() -> None:
    body = (
        b'{"object":"list", "data":[{"index":0,"embedding":[0.50]}], "usage":{"prompt_tokens":3}}'
    )
    said = await asked(answers(200, body), call(Kind.EMBEDDINGS))
    assert said.chunks == []
    assert said.body == body
    assert said.usage == Usage(3, 0, 3)


async def test_the_request_goes_on_with_the_model_and_the_stream_as_respool_needs_them() -> None:
    request: dict[str, Any] = {
        "model": "an alias",
        "messages": [{"role": "user", "content": "Hello?"}],
        "stream": False,
        "stream_options": {"include_usage": False, "continuous_usage_stats": True},
        "top_k": 40,
    }
    exchange = await sent_on(call(**request))
    assert exchange.path == "/v1/chat/completions"
    assert exchange.body == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Hello?"}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "top_k": 40,
    }


async def test_embeddings_are_asked_for_without_a_stream() -> None:
    async with serving(answers(200, {"data": []})) as fake:
        upstream = OpenAIUpstream(fake.url, None, PATIENT)
        await ask(upstream, call(Kind.EMBEDDINGS, input=["a", "b"], stream=True))
        await upstream.aclose()
    assert fake.asked.path == "/v1/embeddings"
    assert fake.asked.body == {"model": "llama3.2", "input": ["a", "b"]}


async def test_completions_have_their_own_path() -> None:
    assert (await sent_on(call(Kind.COMPLETIONS))).path == "/v1/completions"


async def test_the_api_key_goes_along_if_there_is_one() -> None:
    assert (await sent_on(call(), api_key="sk-1")).headers["authorization"] == "Bearer sk-1"
    assert "authorization" not in (await sent_on(call())).headers


async def test_the_trace_goes_along_if_there_is_one() -> None:
    traced = await sent_on(call(traceparent=TRACEPARENT))
    assert traced.headers["traceparent"] == TRACEPARENT
    assert "traceparent" not in (await sent_on(call())).headers


async def test_options_of_the_stream_that_are_no_object_are_a_bad_request() -> None:
    with fails(ErrorKind.BAD_REQUEST, "stream_options takes a JSON object"):
        await asked(streams(events(*HELLO)), call(messages=[{}], stream_options=1))


async def test_a_request_that_is_no_object_is_a_bad_request() -> None:
    with fails(ErrorKind.BAD_REQUEST, "not a JSON object"):
        await asked(streams(events(*HELLO)), Call(Kind.CHAT, "gemma", Raw(b"[1]")))
