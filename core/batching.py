"""Group commit: what concurrent tasks send goes to Redis together.

While batches are on their way the next one gathers, so the cost of a call falls under load and its
latency does not rise at rest. Two are on their way at once: Redis works on one while the other is
packed or unpacked here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from core.errors import StoreUnavailable

BATCH_ITEMS_MAX: Final = 32  # Few enough that 64 callers keep two batches on their way.
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
BATCHES_IN_FLIGHT_MAX: Final = 2
_RESEND_FIRST_SECONDS: Final = 0.05
_RESEND_CEILING_SECONDS: Final = 1.0

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class Batcher(Generic[Item, Reply]):
    """Sends items in batches, in no particular order.

    `call` answers a batch item by item. When it raises StoreUnavailable it is called again with the
    same batch until patience runs out, so it has to recognise what it has done before.
    """

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[list[Reply]]],
        size_bytes: Callable[[Item], int],
        patience_seconds: float,
    ) -> None:
        self._call = call
        self._size_bytes = size_bytes
        self._patience_seconds = patience_seconds
        self._waiting: list[tuple[Item, asyncio.Future[Reply]]] = []
        self._in_flight = 0
        self._flushers: set[asyncio.Task[None]] = set()  # Kept, as the loop itself would not.

    def send(self, item: Item) -> asyncio.Future[Reply]:
        """Queue an item; the future gets its reply, or what `call` raised."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, reply))
        if self._in_flight < BATCHES_IN_FLIGHT_MAX:
            self._in_flight += 1
            flusher = asyncio.create_task(self._flush())
            self._flushers.add(flusher)
            flusher.add_done_callback(self._flushers.discard)
        return reply

    async def _flush(self) -> None:
        # One turn of the loop, so that tasks which woke together share a batch.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                await self._send_one(self._take())
        finally:
            self._in_flight -= 1

    def _take(self) -> list[tuple[Item, asyncio.Future[Reply]]]:
        count, size = 0, 0
        for item, _ in self._waiting[:BATCH_ITEMS_MAX]:
            size += self._size_bytes(item)
            if count and size > BATCH_BYTES_MAX:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _send_one(self, batch: list[tuple[Item, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await self._call_patiently([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits for the reply raises it.
            for _, reply in batch:
                if not reply.done():
                    reply.set_exception(error)
            return
        for (_, reply), answer in zip(batch, replies, strict=True):
            if not reply.done():
                reply.set_result(answer)

    async def _call_patiently(self, items: list[Item]) -> list[Reply]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_seconds
        pause_seconds = _RESEND_FIRST_SECONDS
        while True:
            try:
                return await self._call(items)
            except StoreUnavailable:
                if loop.time() + pause_seconds > give_up_at:
                    raise
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _RESEND_CEILING_SECONDS)
