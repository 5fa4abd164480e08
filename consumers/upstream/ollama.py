"""Ollama's own dialect: NDJSON from `/api/chat` and `/api/generate`, turned into OpenAI's shapes.

Shapes as in Ollama's `docs/api.md`. The last line says `done: true`; an error in mid-stream is a line
`{"error": …}` under status 200.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import msgspec

from consumers.upstream.base import Answer, Call, Chunk, Limits, UpstreamError
from consumers.upstream.fold import Folding
from consumers.upstream.http import HttpServer, explanation, kind_of_failure
from core.events import ErrorKind, Kind, Usage

# OpenAI's name of a parameter, and Ollama's option for it.
_OPTIONS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
}
_AS_THEY_ARE: Final = ("tools", "keep_alive", "think", "suffix", "dimensions")


class OllamaUpstream:
    """An Ollama."""

    def __init__(self, url: str, api_key: str | None, limits: Limits) -> None:
        self._server = HttpServer(url.rstrip("/"), api_key, limits)
        self.address = self._server.address

    async def aclose(self) -> None:
        await self._server.aclose()

    async def models(self) -> frozenset[str]:
        listed = await self._server.get("api/tags")
        try:
            return frozenset(str(model["name"]) for model in listed["models"])
        except (KeyError, TypeError) as error:
            message = f"{self.address}/api/tags did not answer with a list of models"
            raise UpstreamError(ErrorKind.SERVER_ERROR, message) from error

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        path, body = request_of(call)
        if call.kind is Kind.EMBEDDINGS:
            answer = await self._server.post(path, msgspec.json.encode(body), call.traceparent)
            yield _embeddings(call, _read(answer))
            return
        folding = Folding(call.kind)
        async with aclosing(
            self._server.lines(path, msgspec.json.encode(body), call.traceparent)
        ) as lines:
            async for line in lines:
                fields = _read(line)
                chunk = chunk_of(call.kind, fields)
                folding.add(chunk)
                yield Chunk(msgspec.json.encode(chunk))
                if fields.get("done"):
                    yield Answer(folding.body(), folding.usage)
                    return
        message = f"the stream of {self.address} ended without its last line"
        raise UpstreamError(ErrorKind.LOST_STREAM, message)


def request_of(call: Call) -> tuple[str, dict[str, Any]]:
    """The path and the body for a request in OpenAI's shape. Raises UpstreamError if it has none."""
    try:
        asked = msgspec.json.decode(call.request, type=dict[str, Any])
        body: dict[str, Any] = {name: asked[name] for name in _AS_THEY_ARE if name in asked}
        body |= {"model": call.model}
        options = {new: asked[old] for old, new in _OPTIONS.items() if asked.get(old) is not None}
        if options := options | asked.get("options", {}):
            body["options"] = options
        if call.kind is Kind.EMBEDDINGS:
            return "api/embed", body | {"input": asked["input"]}
        if (form := _format(asked.get("response_format"))) is not None:
            body["format"] = form
        if call.kind is Kind.COMPLETIONS:
            return "api/generate", body | {"prompt": asked["prompt"], "stream": True}
        messages = [_message(message) for message in asked["messages"]]
        return "api/chat", body | {"messages": messages, "stream": True}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"the request cannot be put in Ollama's terms: {error!r}"
        raise UpstreamError(ErrorKind.BAD_REQUEST, message) from error


def _format(asked: Any) -> Any:
    match asked:
        case {"type": "json_object"}:
            return "json"
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return schema
        case _:
            return None


def _message(asked: dict[str, Any]) -> dict[str, Any]:
    """A message with its text in one piece, images as base64, and tool arguments as an object."""
    message = {name: value for name, value in asked.items() if name in {"role", "tool_name"}}
    content = asked.get("content") or ""
    if isinstance(content, str):
        message["content"] = content
    else:
        message["content"] = "".join(part["text"] for part in content if part["type"] == "text")
        images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        if images:
            message["images"] = [url.partition("base64,")[2] for url in images]
    if asked.get("tool_calls"):
        message["tool_calls"] = [
            {
                "function": {
                    "name": tool["function"]["name"],
                    "arguments": msgspec.json.decode(tool["function"]["arguments"]),
                }
            }
            for tool in asked["tool_calls"]
        ]
    return message


def chunk_of(kind: Kind, fields: dict[str, Any]) -> dict[str, Any]:
    """A line of Ollama's as a chunk of OpenAI's."""
    finish = (fields.get("done_reason") or "stop") if fields.get("done") else None
    chunk: dict[str, Any] = {
        "id": f"ollama-{_seconds(fields)}",
        "created": _seconds(fields),
        "model": fields.get("model"),
    }
    if kind is Kind.CHAT:
        delta = _delta(fields.get("message") or {})
        if finish == "stop" and delta.get("tool_calls"):
            finish = "tool_calls"
        chunk |= {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
    else:
        text = fields.get("response") or ""
        chunk |= {
            "object": "text_completion",
            "choices": [{"index": 0, "text": text, "finish_reason": finish}],
        }
    if fields.get("done"):
        prompt, completion = fields.get("prompt_eval_count", 0), fields.get("eval_count", 0)
        chunk["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
    return chunk


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": message.get("role", "assistant")}
    if message.get("content"):
        delta["content"] = message["content"]
    if message.get("thinking"):
        delta["reasoning_content"] = message["thinking"]
    if message.get("tool_calls"):
        delta["tool_calls"] = [
            {
                "index": index,
                "id": f"call_{index}",
                "type": "function",
                "function": {
                    "name": tool["function"]["name"],
                    "arguments": msgspec.json.encode(tool["function"]["arguments"]).decode(),
                },
            }
            for index, tool in enumerate(message["tool_calls"])
        ]
    return delta


def _seconds(fields: dict[str, Any]) -> int:
    try:
        return int(datetime.fromisoformat(fields["created_at"]).timestamp())
    except (KeyError, TypeError, ValueError):
        return 0


def _read(line: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"Ollama sent a line that is no JSON object: {error}"
        raise UpstreamError(ErrorKind.SERVER_ERROR, message) from error
    if "error" in fields:
        said = explanation(line)
        raise UpstreamError(kind_of_failure(said), f"Ollama failed in mid-stream: {said}")
    return fields


def _embeddings(call: Call, fields: dict[str, Any]) -> Answer:
    vectors = fields.get("embeddings")
    if not isinstance(vectors, list):
        raise UpstreamError(ErrorKind.SERVER_ERROR, "Ollama answered no embeddings")
    tokens = fields.get("prompt_eval_count", 0)
    body = {
        "object": "list",
        "model": call.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Answer(msgspec.json.encode(body), Usage(tokens, 0, tokens))
