"""An inference server that says when: each token is the time at which it was sent.

    python -m benchmarks.paced PORT TOKENS TOKENS_PER_SECOND

Every answer keeps its own schedule, from the moment that it was asked for: a token that is late does not
delay the next one. Times are nanoseconds of the machine's monotonic clock, which all processes share.
"""

import asyncio
import sys
import time
from contextlib import suppress

from cli.loop import run

MODEL = "paced"
_MODELS = b'{"object":"list","data":[{"id":"paced"}]}'
_BEGIN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)
_TOKEN = '{{"choices":[{{"index":0,"delta":{{"content":"{} "}},"finish_reason":null}}]}}'
_LAST = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


async def serve(port: int, tokens: int, tokens_per_second: float) -> None:
    """Serve for ever."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /v1/models "):
                    writer.write(_whole(b"200 OK", _MODELS))
                elif head.startswith(b"GET "):
                    writer.write(_whole(b"404 Not Found", b"{}"))
                else:
                    await _answer(writer, tokens, tokens_per_second)
                    break
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


async def _answer(writer: asyncio.StreamWriter, tokens: int, tokens_per_second: float) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    writer.write(_BEGIN)
    for number in range(tokens):
        due = began + number / tokens_per_second
        await asyncio.sleep(max(0.0, due - loop.time()))
        writer.write(_chunk(_TOKEN.format(time.monotonic_ns())))
    writer.write(_chunk(_LAST) + _chunk("[DONE]") + b"0\r\n\r\n")
    await writer.drain()


def _chunk(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


def _whole(status: bytes, body: bytes) -> bytes:
    length = str(len(body)).encode()
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: "
    return head + length + b"\r\n\r\n" + body


if __name__ == "__main__":
    run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
