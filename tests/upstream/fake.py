"""An inference server on the loopback that does as a test's script says, misbehaviour included.

It speaks HTTP by hand, one request to a connection, so that it can break off wherever it likes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"


class Exchange:
    """One request, and the means to answer it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.path = ""
        self.headers: dict[str, str] = {}  # Names in lower case.
        self.body: Any = None
        self.client_left = asyncio.Event()
        self._reader = reader
        self._writer = writer

    async def read(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.path = head[0].split(" ")[1]
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        self.headers = {name.lower(): value for name, value in pairs}
        body = await self._reader.readexactly(int(self.headers.get("content-length", "0")))
        self.body = msgspec.json.decode(body) if body else None

    async def watch(self) -> None:
        """Notice when the client closes its end."""
        with suppress(ConnectionError):
            await self._reader.read()
        self.client_left.set()

    async def raw(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, status: int, body: bytes, **headers: str) -> None:
        """A whole answer; `retry_after="7"` is sent as Retry-After."""
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def start(self, content_type: str = SSE) -> None:
        """The head of an answer without a length, after which comes `send` and `end`."""
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {content_type}", "Connection: close"]
        lines += ["Transfer-Encoding: chunked"]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        await self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")


Script = Callable[[Exchange], Awaitable[None]]


class Fake:
    """A server that is there; what it was asked is in `exchanges`."""

    def __init__(self, script: Script) -> None:
        self.url = ""
        self.exchanges: list[Exchange] = []
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None

    async def listen(self) -> None:
        self._listening = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        host, port = self._listening.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"

    def refuse(self) -> None:
        """Take no more connections."""
        if self._listening is not None:
            self._listening.close()

    @property
    def asked(self) -> Exchange:
        """The only request there was."""
        (exchange,) = self.exchanges
        return exchange

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange = Exchange(reader, writer)
        watching: asyncio.Task[None] | None = None
        try:
            # A client may leave, and a test may end, while its answer is being written.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await exchange.read()
                self.exchanges.append(exchange)
                watching = asyncio.create_task(exchange.watch())
                await self._script(exchange)
        finally:
            if watching is not None:
                watching.cancel()
            writer.close()

    async def hang_up(self) -> None:
        """End every conversation."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Fake]:
    """A server that answers each request by the script until the block ends.

    Where a script returns, the connection is closed, whatever was left to say.
    """
    fake = Fake(script)
    await fake.listen()
    try:
        yield fake
    finally:
        fake.refuse()
        await fake.hang_up()


def answers(status: int, body: Any, **headers: str) -> Script:
    """Answer everything alike; a body that is no bytes goes as JSON."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)

    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, data, **headers)

    return script


def events(*chunks: Any, done: bool = True) -> list[bytes]:
    """Chunks as lines of a server-sent event stream; bytes go as they are."""
    lines = [chunk if isinstance(chunk, bytes) else msgspec.json.encode(chunk) for chunk in chunks]
    return [b"data: " + line + b"\n\n" for line in [*lines, *([b"[DONE]"] if done else [])]]


def streams(pieces: Sequence[bytes], content_type: str = SSE) -> Script:
    """Answer 200 with these pieces, and end as one should."""

    async def script(exchange: Exchange) -> None:
        await exchange.start(content_type)
        for piece in pieces:
            await exchange.send(piece)
        await exchange.end()

    return script


def falls_silent(pieces: Sequence[bytes] = (), content_type: str = SSE) -> Script:
    """Answer 200 with these pieces, and say no more until the client leaves."""

    async def script(exchange: Exchange) -> None:
        await exchange.start(content_type)
        for piece in pieces:
            await exchange.send(piece)
        await exchange.client_left.wait()

    return script


def breaks_off(pieces: Sequence[bytes], content_type: str = SSE) -> Script:
    """Answer 200 with these pieces, and close the connection in the middle of the answer."""

    async def script(exchange: Exchange) -> None:
        await exchange.start(content_type)
        for piece in pieces:
            await exchange.send(piece)

    return script


async def hangs(exchange: Exchange) -> None:
    """Take the request and say nothing."""
    await exchange.client_left.wait()
