"""A TCP proxy on the loopback that a test can cut, stall, slow down and close."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

from tests.servers import free_port

_PIECE_BYTES = 64 * 1024
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset and drops what is unsent.


class Proxy:
    """Passes bytes between clients and one port, and misbehaves when told to."""

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self.delay_seconds = 0.0  # Before each piece is passed on, in either direction.
        self._upstream_port = upstream_port
        self._requests_flow = asyncio.Event()
        self._replies_flow = asyncio.Event()
        self.resume()
        self._cut_replies_after: int | None = None
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The proxy as a Redis."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        return len(self._pairs)

    async def open(self) -> None:
        """Accept connections."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Refuse new connections and reset those there are, until `open`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset every connection."""
        for pair in list(self._pairs):
            self._reset(pair)

    def cut_in_reply(self, after_bytes: int) -> None:
        """Reset the connection of the next reply, once so many bytes of replies were passed on."""
        self._cut_replies_after = after_bytes

    def stall(self, *, replies_only: bool = False) -> None:
        """Pass nothing on, and keep the connections, until `resume`.

        What was stalled arrives then, even from a client that has closed its connection meanwhile.
        """
        self._replies_flow.clear()
        if not replies_only:
            self._requests_flow.clear()

    def resume(self) -> None:
        self._requests_flow.set()
        self._replies_flow.set()

    async def close(self) -> None:
        self.resume()
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()  # What was just being connected.
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._connect(reader, writer))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        pair = (writer, to_writer)
        self._pairs.add(pair)
        self._start(self._pass(reader, to_writer, pair))
        self._start(self._pass(to_reader, writer, pair, True))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        is_reply: bool = False,
    ) -> None:
        flow = self._replies_flow if is_reply else self._requests_flow
        with suppress(OSError):
            while piece := await source.read(_PIECE_BYTES):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await flow.wait()
                if is_reply and self._cut_replies_after is not None:
                    piece, self._cut_replies_after = self._shortened(piece)
                    target.write(piece)
                    if self._cut_replies_after is None:
                        break
                    continue
                target.write(piece)
                await target.drain()
        self._reset(pair)

    def _shortened(self, piece: bytes) -> tuple[bytes, int | None]:
        """What to pass on of a reply before the cut, and how much may still come (None: cut now)."""
        left = (self._cut_replies_after or 0) - len(piece)
        return (piece, left) if left > 0 else (piece[: left or None], None)

    def _reset(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._pairs.discard(pair)
        for writer in pair:
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            writer.transport.abort()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """An open proxy in front of `port`, for as long as the block lasts."""
    proxy = Proxy(port)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
