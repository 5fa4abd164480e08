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
from consumers.upstream.fold import Folding, Unfolded, usage_in
from consumers.upstream.http import HttpServer, explanation, kind_of_failure
from core.events import ErrorKind, Kind

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
_LATEST: Final = ":latest"  # The tag that a model's name may leave out.
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
            names = [str(model["name"]) for model in listed["models"]]
        except (KeyError, TypeError) as error:
            message = f"{self.address}/api/tags did not answer with a list of models"
            raise UpstreamError(ErrorKind.SERVER_ERROR, message) from error
        return frozenset(names) | {name.removesuffix(_LATEST) for name in names}

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        path, body = request_of(call)
        if call.kind is Kind.EMBEDDINGS:
            answer = await self._server.post(path, msgspec.json.encode(body), call.traceparent)
            yield _embeddings(call, _read(answer))
            return
        folding, chunks = Folding(call.kind), _Chunks(call.kind)
        async with aclosing(
            self._server.lines(path, msgspec.json.encode(body), call.traceparent)
        ) as lines:
            async for line in lines:
                fields = _read(line)
                try:
                    chunk = chunks.of(fields)
                    folding.add(chunk)
                except (AttributeError, KeyError, TypeError, Unfolded) as error:
                    message = f"Ollama sent a line of an unknown shape: {error!r}"
                    raise UpstreamError(ErrorKind.SERVER_ERROR, message) from error
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
        if isinstance(options.get("stop"), str):
            options["stop"] = [options["stop"]]
        if options := options | asked.get("options", {}):
            body["options"] = options
        if call.kind is Kind.EMBEDDINGS:
            return "api/embed", body | {"input": asked["input"]}
        if (form := _format(asked.get("response_format"))) is not None:
            body["format"] = form
        if call.kind is Kind.COMPLETIONS:
            return "api/generate", body | {"prompt": asked["prompt"], "stream": True}
        names = _tool_names(asked["messages"])
        messages = [_message(message, names) for message in asked["messages"]]
        return "api/chat", body | {"messages": messages, "stream": True}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
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


def _tool_names(messages: list[dict[str, Any]]) -> dict[str, str]:
    """The name of the tool of each call. Ollama knows a tool's result by it, OpenAI by the call's id."""
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return {call["id"]: call["function"]["name"] for call in calls if "id" in call}


def _message(asked: dict[str, Any], tool_names: dict[str, str]) -> dict[str, Any]:
    """A message with its text in one piece, images as base64, and tool arguments as an object."""
    message = {name: value for name, value in asked.items() if name in {"role", "tool_name"}}
    if (call_id := asked.get("tool_call_id")) in tool_names:
        message.setdefault("tool_name", tool_names[call_id])
    content = asked.get("content") or ""
    if isinstance(content, str):
        message["content"] = content
    else:
        message["content"] = "".join(part["text"] for part in content if part["type"] == "text")
        images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        if images:
            message["images"] = [_image(url) for url in images]
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


def _image(url: str) -> str:
    """The base64 of a data URL. Raises ValueError for a URL that would have to be fetched."""
    head, _, data = url.partition(";base64,")
    if not (head.startswith("data:") and data):
        raise ValueError("an image must be a data URL with base64")
    return data


class _Chunks:
    """Ollama's lines as OpenAI's chunks, which share an id and number their tool calls throughout."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._created: int | None = None
        self._tool_calls = 0

    def of(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self._created is None:
            self._created = _seconds(fields)
        is_chat = self._kind is Kind.CHAT
        choice: dict[str, Any] = {"index": 0}
        if is_chat:
            choice["delta"] = self._delta(fields.get("message") or {})
        else:
            choice["text"] = fields.get("response") or ""
        choice["finish_reason"] = self._finish_reason(fields)
        chunk: dict[str, Any] = {
            "id": f"ollama-{self._created}",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": self._created,
            "model": fields.get("model"),
            "choices": [choice],
        }
        if fields.get("done"):
            prompt, completion = fields.get("prompt_eval_count", 0), fields.get("eval_count", 0)
            chunk["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
        return chunk

    def _finish_reason(self, fields: dict[str, Any]) -> str | None:
        if not fields.get("done"):
            return None
        reason = str(fields.get("done_reason") or "stop")
        return "tool_calls" if reason == "stop" and self._tool_calls else reason

    def _delta(self, message: dict[str, Any]) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": message.get("role", "assistant")}
        if message.get("content"):
            delta["content"] = message["content"]
        if message.get("thinking"):
            delta["reasoning_content"] = message["thinking"]
        if message.get("tool_calls"):
            delta["tool_calls"] = [self._tool_call(tool) for tool in message["tool_calls"]]
        return delta

    def _tool_call(self, tool: dict[str, Any]) -> dict[str, Any]:
        index = self._tool_calls
        self._tool_calls += 1
        called = tool["function"]
        arguments = msgspec.json.encode(called["arguments"]).decode()
        return {
            "index": index,
            "id": tool.get("id") or f"call_{index}",
            "type": "function",
            "function": {"name": called["name"], "arguments": arguments},
        }


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
    tokens = fields.get("prompt_eval_count") or 0
    body = {
        "object": "list",
        "model": call.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    answer = msgspec.json.encode(body)
    return Answer(answer, usage_in(answer))
