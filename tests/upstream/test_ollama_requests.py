"""What an Ollama is asked when a client asked in OpenAI's terms."""

from typing import Any

import pytest
from msgspec import Raw

from consumers.upstream.base import Call, UpstreamError
from consumers.upstream.ollama import OllamaUpstream
from core.events import ErrorKind, Kind
from tests.upstream.asking import PATIENT, ask, call, fails
from tests.upstream.fake import Exchange, answers, serving

HELLO: list[Any] = [{"role": "user", "content": "Hello?"}]
PIXEL = "iVBORw0KGgo="
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def sent_on(what: Call) -> Exchange:
    """What the server is asked for such a call; what it answers does not matter."""
    async with serving(answers(500, {"error": "not today"})) as fake:
        upstream = OllamaUpstream(fake.url, "sk-1", PATIENT)
        try:
            with fails(ErrorKind.SERVER_ERROR, "not today"):
                await ask(upstream, what)
        finally:
            await upstream.aclose()
        return fake.asked


async def message_sent_on(message: dict[str, Any]) -> Any:
    exchange = await sent_on(call(messages=[message]))
    (sent,) = exchange.body["messages"]
    return sent


async def test_a_chat_is_asked_of_api_chat() -> None:
    exchange = await sent_on(call(model="an alias", messages=HELLO, stream=False))
    assert exchange.path == "/api/chat"
    assert exchange.body == {"model": "llama3.2", "messages": HELLO, "stream": True}


async def test_a_completion_is_asked_of_api_generate() -> None:
    exchange = await sent_on(call(Kind.COMPLETIONS, prompt="def f(", suffix="return x"))
    assert exchange.path == "/api/generate"
    assert exchange.body == {
        "model": "llama3.2",
        "prompt": "def f(",
        "suffix": "return x",
        "stream": True,
    }


async def test_embeddings_are_asked_of_api_embed() -> None:
    exchange = await sent_on(call(Kind.EMBEDDINGS, input=["a", "b"], dimensions=8))
    assert exchange.path == "/api/embed"
    assert exchange.body == {"model": "llama3.2", "input": ["a", "b"], "dimensions": 8}


async def test_the_trace_and_the_api_key_go_along() -> None:
    exchange = await sent_on(call(traceparent=TRACEPARENT))
    assert exchange.headers["traceparent"] == TRACEPARENT
    assert exchange.headers["authorization"] == "Bearer sk-1"


OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 7}, {"num_predict": 7}),
    ({"max_completion_tokens": 7}, {"num_predict": 7}),
    ({"temperature": 0}, {"temperature": 0}),
    ({"top_p": 0.5}, {"top_p": 0.5}),
    ({"seed": 42}, {"seed": 42}),
    ({"presence_penalty": 1.5}, {"presence_penalty": 1.5}),
    ({"frequency_penalty": 1.0}, {"frequency_penalty": 1.0}),
    ({"stop": ["\n", "user:"]}, {"stop": ["\n", "user:"]}),
    ({"stop": "user:"}, {"stop": ["user:"]}),  # Ollama takes nothing but a list.
    ({"options": {"num_ctx": 1024}, "seed": 1}, {"num_ctx": 1024, "seed": 1}),
]


@pytest.mark.parametrize(("asked", "options"), OPTIONS)
async def test_parameters_become_options(asked: dict[str, Any], options: dict[str, Any]) -> None:
    exchange = await sent_on(call(messages=HELLO, **asked))
    assert exchange.body["options"] == options


async def test_parameters_that_are_null_are_left_out() -> None:
    exchange = await sent_on(call(messages=HELLO, stop=None, max_tokens=None))
    assert "options" not in exchange.body


SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}
FORMATS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "json_object"}, "json"),
    ({"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}, SCHEMA),
    ({"type": "text"}, None),
]


@pytest.mark.parametrize(("asked", "form"), FORMATS)
async def test_a_response_format_becomes_a_format(asked: dict[str, Any], form: Any) -> None:
    exchange = await sent_on(call(messages=HELLO, response_format=asked))
    assert exchange.body.get("format") == form


async def test_what_both_call_the_same_goes_along() -> None:
    tools = [{"type": "function", "function": {"name": "now", "parameters": {}}}]
    exchange = await sent_on(call(messages=HELLO, tools=tools, keep_alive="5m", think=True))
    assert exchange.body["tools"] == tools
    assert exchange.body["keep_alive"] == "5m"
    assert exchange.body["think"] is True


async def test_parts_become_one_text_and_images_in_base64() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    texts = [{"type": "text", "text": text} for text in ("What is", " this?")]
    sent = await message_sent_on({"role": "user", "content": [texts[0], image, texts[1]]})
    assert sent == {"role": "user", "content": "What is this?", "images": [PIXEL]}


async def test_tool_calls_of_the_past_have_their_arguments_as_an_object() -> None:
    called = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x":1}'}}
    sent = await message_sent_on({"role": "assistant", "content": None, "tool_calls": [called]})
    assert sent == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "add", "arguments": {"x": 1}}}],
    }


async def test_the_result_of_a_tool_goes_along_with_the_name_of_the_tool() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": f"get_{name}", "arguments": "{}"}}
        for name in ("wind", "rain")
    ]
    messages = [
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "rain", "content": "none"},
        {"role": "tool", "tool_call_id": "unknown", "content": "42"},
    ]
    exchange = await sent_on(call(messages=messages))
    assert exchange.body["messages"][1:] == [
        {"role": "tool", "tool_name": "get_rain", "content": "none"},
        {"role": "tool", "content": "42"},
    ]


BAD: list[tuple[Kind, bytes]] = [
    (Kind.CHAT, b"{}"),
    (Kind.CHAT, b"[]"),
    (Kind.CHAT, b'{"messages":["Hello?"]}'),
    (Kind.CHAT, b'{"messages":[{"role":"user","content":[{"type":"text"}]}]}'),
    (
        Kind.CHAT,
        b'{"messages":[{"content":[{"type":"image_url","image_url":{"url":"http://x/y.png"}}]}]}',
    ),
    (Kind.CHAT, b'{"messages":[{"tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]}'),
    (Kind.COMPLETIONS, b'{"messages":[]}'),
    (Kind.EMBEDDINGS, b'{"prompt":"Hello"}'),
]


@pytest.mark.parametrize(("kind", "request_body"), BAD)
async def test_a_request_that_cannot_be_translated_is_a_bad_request(
    kind: Kind, request_body: bytes
) -> None:
    upstream = OllamaUpstream("http://127.0.0.1:9", None, PATIENT)
    with pytest.raises(UpstreamError) as raised:
        await ask(upstream, Call(kind, "llama3.2", Raw(request_body)))
    await upstream.aclose()
    assert raised.value.error.kind is ErrorKind.BAD_REQUEST
