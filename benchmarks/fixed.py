"""An inference server that answers at once, and always the same: `python -m benchmarks.fixed PORT`.

A request that asks for a stream gets its first token at once, whatever the model; `paced` sends each
further one some milliseconds later, any other model all of them together.
"""

import asyncio
import sys
from typing import Any, Final

import httptools
import msgspec
import uvloop

MODEL: Final = "fixed"
PACED: Final = "paced"
_TOKENS: Final = ("Hello", "!", " How", " can", " I", " help", "?")
_PACE_SECONDS: Final = 0.003
_USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}


class _Asked(msgspec.Struct):
    stream: bool | None = None
    model: str = MODEL


class _Conversation(asyncio.Protocol):
    """One connection. Its parser calls the `on_` methods."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport.
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if self._parser.get_method() == b"GET":
            self._transport.write(_MODELS)
            return
        asked = msgspec.json.decode(body, type=_Asked)
        if not asked.stream:
            self._transport.write(_ANSWER)
        elif asked.model == PACED:
            self._transport.write(_STREAM_HEAD + _CHUNKS[0])
            self._send_later(1)
        else:
            self._transport.write(_STREAM_HEAD + b"".join(_CHUNKS))

    def _send_later(self, at: int) -> None:
        asyncio.get_running_loop().call_later(_PACE_SECONDS, self._send, at)

    def _send(self, at: int) -> None:
        self._transport.write(_CHUNKS[at])
        if at + 1 < len(_CHUNKS):
            self._send_later(at + 1)


def _json(value: object) -> bytes:
    body = msgspec.json.encode(value)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _event(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _event(msgspec.json.encode(_STREAMED | {"choices": [choice]}))


_KNOWN: Final = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": MODEL}
_STREAMED: Final = _KNOWN | {"object": "chat.completion.chunk"}
_MODELS: Final = _json(
    {"object": "list", "data": [{"id": name, "object": "model"} for name in (MODEL, PACED)]}
)
_ANSWER: Final = _json(
    _KNOWN
    | {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(_TOKENS)},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
)
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_CHUNKS: Final = (
    *(_chunk({"role": "assistant", "content": token}) for token in _TOKENS),
    _chunk({}, "stop"),
    _event(msgspec.json.encode(_STREAMED | {"choices": [], "usage": _USAGE})),
    _event(b"[DONE]") + b"0\r\n\r\n",
)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Conversation, "127.0.0.1", port, backlog=1_024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
