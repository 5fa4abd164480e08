"""An inference server that begins every answer, never ends one, and notes when it was hung up on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

MODEL = "slow"
_MODELS = b'{"object":"list","data":[{"id":"slow"}]}'
_TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"well"},"finish_reason":null}]}\n\n'


class Endless:
    """One conversation at a time is of interest: the newest."""

    def __init__(self) -> None:
        self.url = ""
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()
        self.closed_at = 0.0  # By time.perf_counter.

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /v1/models "):
                    writer.write(_answer(_MODELS))
                elif head.startswith(b"GET "):
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                else:
                    await self._answer_for_ever(reader, writer)
                    break
        writer.close()

    async def _answer_for_ever(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        kind = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        writer.write(kind + b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write(f"{len(_TOKEN):x}\r\n".encode() + _TOKEN + b"\r\n")
        self.begun.set()
        while await reader.read(65_536):
            pass  # The rest of the request.
        self.closed_at = time.perf_counter()
        self.closed.set()


def _answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


@asynccontextmanager
async def endless() -> AsyncIterator[Endless]:
    """The server, on a port of the loopback, until the block ends."""
    upstream = Endless()
    server = await asyncio.start_server(upstream.converse, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    upstream.url = f"http://{host}:{port}"
    try:
        yield upstream
    finally:
        server.close()
