"""OpenAI's dialect, as vLLM, llama.cpp and Ollama's `/v1` speak it.

Always streamed from, with `stream_options.include_usage`. A stream is whole only with a finish reason
for every choice and the closing `[DONE]`: a server that dies leaves out either.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from msgspec import Raw

from consumers.upstream.base import Answer, Call, Chunk, Limits, UpstreamError
from consumers.upstream.fold import Folding, Unfolded, usage_in
from consumers.upstream.http import HttpServer, explanation, kind_of_failure
from core.events import ErrorKind, Kind

_PATHS: Final = {
    Kind.CHAT: "v1/chat/completions",
    Kind.COMPLETIONS: "v1/completions",
    Kind.EMBEDDINGS: "v1/embeddings",
}
_DONE: Final = b"[DONE]"
_NULL: Final = Raw(b"null")
_OTHER_FIELDS: Final = (b"event:", b"id:", b"retry:")  # Of an event, beside its data.


class OpenAIUpstream:
    """A server that speaks OpenAI's API."""

    def __init__(self, url: str, api_key: str | None, limits: Limits) -> None:
        self._server = HttpServer(url.rstrip("/").removesuffix("/v1"), api_key, limits)
        self.address = self._server.address

    async def aclose(self) -> None:
        await self._server.aclose()

    async def models(self) -> frozenset[str]:
        listed = await self._server.get("v1/models")
        try:
            return frozenset(str(model["id"]) for model in listed["data"])
        except (KeyError, TypeError) as error:
            message = f"{self.address}/v1/models did not answer with a list of models"
            raise UpstreamError(ErrorKind.SERVER_ERROR, message) from error

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        path, body = _PATHS[call.kind], request_body(call)
        if call.kind is Kind.EMBEDDINGS:
            answer = await self._server.post(path, body, call.traceparent)
            yield Answer(_checked_embeddings(answer), usage_in(answer))
            return
        folding = Folding(call.kind)
        is_done, stray = False, b""
        async with aclosing(self._server.lines(path, body, call.traceparent)) as lines:
            async for line in lines:
                data = line.removeprefix(b"data:").strip()
                if data == _DONE:
                    is_done = True
                    break
                if line.startswith((b"data:", b"{")):
                    chunk = _read_chunk(data)
                    _fold(folding, chunk)
                    if chunk.get("choices"):
                        yield Chunk(data)
                elif not line.startswith(_OTHER_FIELDS):
                    stray = stray or line
        if stray and not is_done and not folding.has_begun:
            message = f"{self.address} answered with no stream of events: {explanation(stray)}"
            raise UpstreamError(ErrorKind.SERVER_ERROR, message)
        if not (is_done and folding.is_finished):
            missing = "its finish reason" if is_done else "[DONE]"
            message = f"the stream of {self.address} ended without {missing}"
            raise UpstreamError(ErrorKind.LOST_STREAM, message)
        yield Answer(folding.body(), folding.usage)


def request_body(call: Call) -> bytes:
    """The client's request with what Respool needs of it; the rest stays byte for byte.

    Raises UpstreamError if it is no JSON object.
    """
    try:
        fields = msgspec.json.decode(call.request, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"the request is not a JSON object: {error}"
        raise UpstreamError(ErrorKind.BAD_REQUEST, message) from error
    fields["model"] = Raw(msgspec.json.encode(call.model))
    fields.pop("stream", None)
    options = fields.pop("stream_options", _NULL)
    if call.kind is not Kind.EMBEDDINGS:
        fields["stream"] = Raw(b"true")
        fields["stream_options"] = _with_usage(options)
    return msgspec.json.encode(fields)


def _with_usage(options: Raw) -> Raw:
    """The client's `stream_options`, but that the usage is asked for in any case."""
    try:
        fields = msgspec.json.decode(options, type=dict[str, Raw] | None) or {}
    except msgspec.DecodeError as error:
        message = f"stream_options takes a JSON object: {error}"
        raise UpstreamError(ErrorKind.BAD_REQUEST, message) from error
    return Raw(msgspec.json.encode(fields | {"include_usage": Raw(b"true")}))


def _read_chunk(data: bytes) -> dict[str, Any]:
    try:
        chunk = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"the inference server sent a chunk that is not JSON: {error}"
        raise UpstreamError(ErrorKind.SERVER_ERROR, message) from error
    if not isinstance(chunk, dict):
        raise UpstreamError(
            ErrorKind.SERVER_ERROR, "the inference server sent a chunk that is no object"
        )
    if chunk.get("error"):
        said = explanation(data)
        message = f"the inference server failed in mid-stream: {said}"
        raise UpstreamError(kind_of_failure(said), message)
    return chunk


def _fold(folding: Folding, chunk: dict[str, Any]) -> None:
    try:
        folding.add(chunk)
    except Unfolded as error:
        raise UpstreamError(ErrorKind.SERVER_ERROR, str(error)) from error


def _checked_embeddings(body: bytes) -> bytes:
    try:
        fields = msgspec.json.decode(body)
        if isinstance(fields["data"], list):
            return body
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        pass
    message = f"the inference server answered no embeddings: {explanation(body)}"
    raise UpstreamError(ErrorKind.SERVER_ERROR, message)
