"""A client that writes bytes of its own, as no HTTP library would."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

_SECONDS = 10.0


class Answer:
    """What came back: one answer, as httpx understands it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        parted = [line.partition(": ") for line in lines if line]
        self.status = int(first.split(" ", 2)[1])
        self.headers = httpx.Headers([(name, value) for name, _, value in parted])
        self.body = body

    def error(self, status: int, code: str) -> dict[str, Any]:
        """The contract's error, which this has to be."""
        assert (self.status, self.headers["content-type"]) == (status, "application/json"), (
            self.body
        )
        error: dict[str, Any] = msgspec.json.decode(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == code
        assert self.headers["x-request-id"]
        return error


class Line:
    """A connection to an API."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> Answer:
        """The head of the next answer."""
        async with asyncio.timeout(_SECONDS):
            return Answer(await self._reader.readuntil(b"\r\n\r\n"), b"")

    async def answer(self) -> Answer:
        """The next answer, which has to come."""
        async with asyncio.timeout(_SECONDS):
            answer = await self.head()
            length = int(answer.headers.get("content-length", "0"))
            answer.body = await self._reader.readexactly(length)
            return answer

    async def rest(self) -> bytes:
        """All that still comes until the other side ends; TimeoutError if it does not."""
        async with asyncio.timeout(_SECONDS):
            return await self._reader.read()

    async def is_gone(self) -> None:
        """Wait until the server has given the connection up altogether; it says no more."""
        assert await self.rest() == b""
        await self.is_cut_off()

    async def is_cut_off(self) -> None:
        """Wait until the server has given the connection up, whatever there would be to read."""
        async with asyncio.timeout(_SECONDS):
            while True:
                try:
                    await self.send(b" ")
                    await asyncio.sleep(0.01)
                except ConnectionError:
                    return

    def read_nothing(self) -> None:
        """Let all that comes pile up at the other side."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()

    def end(self) -> None:
        """Close our side, as one that wants nothing more."""
        self._writer.transport.abort()


@asynccontextmanager
async def line_to(base_url: object) -> AsyncIterator[Line]:
    """A connection to an API, for as long as the block lasts."""
    url = urlsplit(str(base_url))
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A request's bytes; `length` is what it says of its body, if that is not the truth."""
    lines = (f"POST {path} HTTP/1.1", "Host: test", *headers)
    if not any(line.lower().startswith("transfer-encoding") for line in headers):
        lines += (f"Content-Length: {len(body) if length is None else length}",)
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request's bytes."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: test", *headers, "", "")).encode(
        "ascii"
    )
