"""Pub/sub as `core.bells` uses it: a connection that brings rings, late, and breaks when it is cut."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

from redis.exceptions import ConnectionError as Disconnected


class PubSub:
    """One subscribed connection."""

    connection = None  # None that could lead to a replica.

    def __init__(self, latency: Callable[[], float], is_cut: Callable[[], bool]) -> None:
        self._latency = latency
        self._is_cut = is_cut
        self._channels: dict[bytes, None] = {}
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._channels.clear()

    def hears(self, channel: bytes) -> bool:
        return channel in self._channels

    def ring(self, channel: bytes, data: bytes) -> None:
        self._messages.put_nowait({"type": "message", "channel": channel, "data": data})

    async def subscribe(self, *names: str) -> None:
        await self._send()
        for name in sorted(names):
            self._channels[name.encode()] = None
            count = len(self._channels)
            message = {"type": "subscribe", "channel": name.encode(), "data": count}
            self._messages.put_nowait(message)

    async def unsubscribe(self, *names: str) -> None:
        await self._send()
        for name in names:
            self._channels.pop(name.encode(), None)

    async def ping(self) -> None:
        await self._send()
        self._messages.put_nowait({"type": "pong", "channel": b""})

    def cut(self) -> None:
        """Break the connection: whoever reads from it is told."""
        self._channels.clear()
        self._messages.put_nowait({"type": "cut"})

    async def get_message(self, timeout: float) -> dict[str, Any] | None:
        """The next message; None if there is none for that long."""
        try:
            async with asyncio.timeout(timeout):
                message = await self._messages.get()
        except TimeoutError:
            return None
        if message["type"] == "cut":
            raise Disconnected("the connection is lost")
        return message

    async def _send(self) -> None:
        await asyncio.sleep(self._latency())
        if self._is_cut():
            raise Disconnected("the connection is lost")
