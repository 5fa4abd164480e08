"""A TCP proxy on the loopback that a test can cut, stall, slow down and close."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.servers import free_port

_BACKLOG = 1_024
_PIECE_BYTES = 64 * 1024
_Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset and drops what is unsent.


class Proxy:
    """Passes bytes between clients and one port, and misbehaves when told to."""

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self.delay_seconds = 0.0  # Before each piece is passed on, in either direction.
        self.replies = 0  # Pieces of replies that came from the upstream.
        self.paused = asyncio.Event()  # A reply has come to where `pause_in_reply` holds it.
        self._upstream_port = upstream_port
        self._requests_flow = asyncio.Event()
        self._replies_flow = asyncio.Event()
        self.resume()
        self._cut_replies_after: int | None = None
        self._pause_reply_after: int | None = None
        self._forgotten: set[_Pair] = set()
        # Not asyncio's server, which leaks a connection that comes as it is closed.
        self._listening: socket.socket | None = None
        self._accepted: set[socket.socket] = set()  # They have no connection to the upstream yet.
        self._pairs: set[_Pair] = set()
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
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    async def refuse(self) -> None:
        """Refuse new connections and reset those there are, until `open`."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset every connection."""
        for pair in list(self._pairs):
            self._reset(pair)
        while self._accepted:
            self._accepted.pop().close()

    def lead_to(self, upstream_port: int) -> None:
        """Lead new connections somewhere else; those there are stay where they are."""
        self._upstream_port = upstream_port

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

    def pause_in_reply(self, after_bytes: int) -> None:
        """Pass so many bytes of the next reply on, then no more of any, until `resume`."""
        self.paused.clear()
        self._pause_reply_after = after_bytes

    def forget(self) -> None:
        """Swallow what comes on the connections there are, as a router does that has forgotten them."""
        self._forgotten |= self._pairs

    def resume(self) -> None:
        self._requests_flow.set()
        self._replies_flow.set()

    async def close(self) -> None:
        self.resume()
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()

    def _accept(self, listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        self._accepted.add(accepted)
        self._keep(self._connect(accepted))

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            self._accepted.discard(accepted)
            accepted.close()
            return
        if accepted not in self._accepted:  # Reset meanwhile.
            to_writer.transport.abort()
            return
        self._accepted.discard(accepted)
        reader, writer = await asyncio.open_connection(sock=accepted)
        pair = (writer, to_writer)
        self._pairs.add(pair)
        self._keep(self._pass(reader, to_writer, pair))
        self._keep(self._pass(to_reader, writer, pair, True))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        pair: _Pair,
        is_reply: bool = False,
    ) -> None:
        flow = self._replies_flow if is_reply else self._requests_flow
        with suppress(OSError):
            while piece := await source.read(_PIECE_BYTES):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                self.replies += is_reply
                await flow.wait()
                if pair in self._forgotten:
                    continue
                if is_reply and self._pause_reply_after is not None:
                    at, self._pause_reply_after = self._pause_reply_after, None
                    target.write(piece[:at])
                    piece = piece[at:]
                    self.stall(replies_only=True)
                    self.paused.set()
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

    def _reset(self, pair: _Pair) -> None:
        self._pairs.discard(pair)
        self._forgotten.discard(pair)
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
