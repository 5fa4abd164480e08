"""A connection to the inference server is used again once its answer is over, and closed otherwise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

from consumers.upstream.openai import OpenAIUpstream
from core.events import ErrorKind
from tests.upstream.asking import PATIENT, ask, call, fails
from tests.upstream.behaving import HELLO

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_CHUNKS: Final = [f"{len(event):x}\r\n".encode() + event + b"\r\n" for event in HELLO]
_WHOLE: Final = b"".join((_HEAD, *_CHUNKS, b"0\r\n\r\n"))
_BEGUN: Final = _HEAD + _CHUNKS[0]


class Keeping:
    """A server that keeps its connections open, and answers every request on them the same."""

    def __init__(self, answer: bytes) -> None:
        self.url = ""
        self.connections = 0
        self.closed = asyncio.Event()
        self.closes = False  # A connection, as soon as it has sent an answer on it.
        self.dies = False  # Of the next request.
        self.listens: asyncio.Server | None = None
        self._answer = answer

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                if self.dies and self.listens:
                    self.listens.close()
                    break
                writer.write(self._answer)
                if self.closes:
                    break
        self.closed.set()
        writer.close()


@asynccontextmanager
async def keeping(answer: bytes) -> AsyncIterator[tuple[Keeping, OpenAIUpstream]]:
    keeping = Keeping(answer)
    server = keeping.listens = await asyncio.start_server(keeping.converse, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    keeping.url = f"http://{host}:{port}"
    upstream = OpenAIUpstream(keeping.url, None, PATIENT)
    try:
        yield keeping, upstream
    finally:
        await upstream.aclose()
        server.close()
        await server.wait_closed()


async def test_a_connection_whose_stream_is_over_is_used_again() -> None:
    async with keeping(_WHOLE) as (server, upstream):
        for _ in range(3):
            await ask(upstream, call())
        assert server.connections == 1


async def test_a_connection_whose_stream_is_left_is_closed() -> None:
    async with keeping(_BEGUN) as (server, upstream):
        async with aclosing(upstream.stream(call())) as stream:
            await anext(stream)
        async with asyncio.timeout(10):
            await server.closed.wait()


async def test_a_kept_connection_that_the_server_has_closed_costs_no_request() -> None:
    async with keeping(_WHOLE) as (server, upstream):
        server.closes = True
        for _ in range(20):  # Not each is used again before its end is noticed.
            await ask(upstream, call())
        assert server.connections == 20


async def test_a_server_that_dies_of_a_request_on_a_kept_connection_broke_off() -> None:
    async with keeping(_WHOLE) as (server, upstream):
        await ask(upstream, call())
        server.dies = True
        with fails(ErrorKind.LOST_STREAM):
            await ask(upstream, call())
