"""Readers of streams that cost next to nothing themselves: bytes from a socket, and when they came."""

import asyncio
import time
from collections.abc import Callable
from typing import cast


class Reader(asyncio.Protocol):
    """One request, and its answer as it comes: `on_data(data, now_ns)`."""

    def __init__(self, request: bytes, on_data: Callable[[bytes, int], None]) -> None:
        self._request = request
        self._on_data = on_data
        self._transport: asyncio.Transport | None = None
        self.begun = asyncio.Event()  # Its status and headers have come.
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class.
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.begun.is_set():
            assert data.startswith(b"HTTP/1.1 200 "), data[:500]
            self.begun.set()
        self._on_data(data, time.monotonic_ns())
        if data.endswith(b"0\r\n\r\n"):
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def read(
    port: int, path: str, on_data: Callable[[bytes, int], None], body: bytes | None = None
) -> Reader:
    """Ask for a stream on a connection of its own: GET, or POST with a body."""
    head = f"GET {path}" if body is None else f"POST {path}"
    lines = [f"{head} HTTP/1.1", "Host: api", "Accept: text/event-stream"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + (body or b"")
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: Reader(request, on_data), "127.0.0.1", port)
    return reader
