"""Ollama's dialect: its NDJSON, in the shapes of its docs/api.md, as OpenAI's chunks and bodies."""

from typing import Any

import msgspec
import pytest

from consumers.upstream.base import Call
from consumers.upstream.ollama import OllamaUpstream
from core.events import ErrorKind, Kind, Usage
from tests.upstream.asking import PATIENT, Said, ask, call, fails
from tests.upstream.fake import NDJSON, Script, answers, breaks_off, serving, streams

AT = "2023-08-04T08:52:19.385406455-07:00"
CREATED = 1691164339
COUNTS = {
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}
BUSY = "server busy, please try again.  maximum pending requests exceeded"


def line(**fields: Any) -> bytes:
    head = {"model": "llama3.2", "created_at": AT}
    return msgspec.json.encode(head | {"done": False} | fields) + b"\n"


def says(content: str, **fields: Any) -> bytes:
    """A line of a chat."""
    return line(message={"role": "assistant", "content": content} | fields)


def done(**fields: Any) -> bytes:
    return line(**({"done": True, "done_reason": "stop"} | COUNTS | fields))


def writes(*lines: bytes) -> Script:
    return streams(lines, NDJSON)


async def asked(script: Script, what: Call | None = None) -> Said:
    """Ask a server that answers by the script."""
    async with serving(script) as fake:
        upstream = OllamaUpstream(fake.url, None, PATIENT)
        try:
            return await ask(upstream, what or call())
        finally:
            await upstream.aclose()


async def models_of(script: Script) -> frozenset[str]:
    async with serving(script) as fake:
        upstream = OllamaUpstream(fake.url, None, PATIENT)
        try:
            return await upstream.models()
        finally:
            await upstream.aclose()


async def test_a_chat_becomes_openai_chunks_and_one_body() -> None:
    said = await asked(writes(says("The", images=None), says(" sky"), done()))
    assert said.fields == {
        "id": f"ollama-{CREATED}",
        "object": "chat.completion",
        "created": CREATED,
        "model": "llama3.2",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The sky"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 26, "completion_tokens": 282, "total_tokens": 308},
    }
    assert said.usage == Usage(26, 282, 308)
    assert msgspec.json.decode(said.chunks[0]) == {
        "id": f"ollama-{CREATED}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "llama3.2",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "The"},
                "finish_reason": None,
            }
        ],
    }


async def test_all_chunks_of_an_answer_have_the_same_id_and_time() -> None:
    later = line(created_at="2023-08-04T08:52:25-07:00", message={"content": "!"})
    said = await asked(writes(says("Hi"), later, done(created_at="2023-08-04T08:52:29-07:00")))
    heads = [msgspec.json.decode(chunk) for chunk in said.chunks]
    assert {(head["id"], head["created"]) for head in heads} == {(f"ollama-{CREATED}", CREATED)}


async def test_thinking_is_reasoning_content() -> None:
    said = await asked(writes(says("", thinking="Let me"), says("", thinking=" see"), done()))
    assert said.choice["message"]["reasoning_content"] == "Let me see"
    assert said.choice["message"]["content"] is None


async def test_tool_calls_keep_their_order_and_finish_the_answer() -> None:
    def tool(city: str) -> dict[str, Any]:
        return {"function": {"name": "get_weather", "arguments": {"city": city}}}

    both = says("", tool_calls=[tool("Paris"), tool("Rome")])
    said = await asked(writes(both, says("", tool_calls=[tool("Oslo")]), done()))
    assert said.choice["finish_reason"] == "tool_calls"
    assert said.choice["message"]["tool_calls"] == [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": f'{{"city":"{city}"}}'},
        }
        for index, city in enumerate(("Paris", "Rome", "Oslo"))
    ]


@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_the_reason_to_be_done_is_the_finish_reason(reason: str) -> None:
    said = await asked(writes(says("The"), done(done_reason=reason)))
    assert said.choice["finish_reason"] == reason


async def test_an_older_ollama_gives_no_reason_and_counts_no_cached_prompt() -> None:
    last = {"model": "llama3.2", "created_at": AT, "done": True, "eval_count": 2}
    said = await asked(writes(says("The"), msgspec.json.encode(last)))
    assert said.choice["finish_reason"] == "stop"
    assert said.usage == Usage(0, 2, 2)


async def test_completions_are_generated() -> None:
    lines = line(response="The"), line(response=" sky"), done(response="", context=[1, 2])
    said = await asked(writes(*lines), call(Kind.COMPLETIONS))
    assert said.fields["object"] == "text_completion"
    assert said.choice == {"index": 0, "text": "The sky", "finish_reason": "stop"}


async def test_embeddings_take_the_shape_of_openai() -> None:
    answer = {"model": "all-minilm", "embeddings": [[0.5, 1.0], [0.25, 0]], "prompt_eval_count": 8}
    said = await asked(answers(200, answer), call(Kind.EMBEDDINGS, input=["a", "b"]))
    assert said.fields == {
        "object": "list",
        "model": "llama3.2",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 0]},
        ],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    assert said.usage == Usage(8, 0, 8)


async def test_a_model_may_be_named_without_its_latest_tag() -> None:
    listed = {"models": [{"name": "llama3.2:latest", "size": 1}, {"name": "qwen3:0.6b"}]}
    names = await models_of(answers(200, listed))
    assert names == {"llama3.2:latest", "llama3.2", "qwen3:0.6b"}


async def test_an_answer_that_lists_no_models_is_a_server_error() -> None:
    with fails(ErrorKind.SERVER_ERROR, "list of models"):
        await models_of(answers(200, {"tags": []}))


async def test_an_error_in_mid_stream_is_a_server_error_that_says_it() -> None:
    with fails(ErrorKind.SERVER_ERROR, "an error was encountered"):
        await asked(writes(says("The"), b'{"error":"an error was encountered while running"}\n'))


async def test_a_full_gpu_in_mid_stream_is_out_of_memory() -> None:
    with fails(ErrorKind.OUT_OF_MEMORY, "CUDA"):
        await asked(writes(b'{"error":"CUDA error: out of memory"}\n'))


async def test_a_busy_server_is_an_overload() -> None:
    with fails(ErrorKind.OVERLOAD, "server busy") as failure:
        await asked(answers(503, {"error": BUSY}))
    assert failure.error.retry_after_ms is None


async def test_a_model_that_is_not_installed_is_an_unknown_model() -> None:
    with fails(ErrorKind.UNKNOWN_MODEL, "llama3.2"):
        await asked(answers(404, {"error": "model 'llama3.2' not found"}))


async def test_a_stream_without_its_last_line_is_a_lost_stream() -> None:
    with fails(ErrorKind.LOST_STREAM, "without its last line"):
        await asked(writes(says("The"), says(" sky")))


async def test_a_stream_that_breaks_off_is_a_lost_stream() -> None:
    with fails(ErrorKind.LOST_STREAM, "broke off"):
        await asked(breaks_off([says("The")], NDJSON))


ODD = (
    b"<html>\n",
    b"[1]\n",
    line(message=["?"]),
    line(message={"tool_calls": [{"function": None}]}),
    done(eval_count="many"),
    b'{"model":"\xff"}\n',
)


@pytest.mark.parametrize("odd", ODD)
async def test_a_line_of_another_shape_is_a_server_error(odd: bytes) -> None:
    with fails(ErrorKind.SERVER_ERROR):
        await asked(writes(odd))


async def test_an_answer_without_embeddings_is_a_server_error() -> None:
    with fails(ErrorKind.SERVER_ERROR, "no embeddings"):
        await asked(answers(200, {"model": "llama3.2"}), call(Kind.EMBEDDINGS))
