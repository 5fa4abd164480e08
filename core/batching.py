"""Group commit: what concurrent tasks send goes to Redis together.

While batches are on their way the next one gathers, so the cost of a call falls under load and its
latency does not rise at rest. Two are on their way at once: Redis works on one while the other is
packed or unpacked here.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

from core.errors import StoreUnavailable

BATCH_ITEMS_MAX: Final = 32  # Few enough that 64 callers keep two batches on their way.
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
BATCHES_IN_FLIGHT_MAX: Final = 2
WAITING_MAX: Final = 20_000
_RESEND_FIRST_SECONDS: Final = 0.05
_RESEND_CEILING_SECONDS: Final = 1.0

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class _Waiting(NamedTuple, Generic[Item, Reply]):
    """An item, who waits for its reply, and until when (by the loop's clock)."""

    item: Item
    reply: asyncio.Future[Reply]
    until: float


class Batcher(Generic[Item, Reply]):
    """Sends items in batches, in no particular order.

    `call` answers a batch item by item. When it raises StoreUnavailable it is called again with the
    same batch until the patience of its first item has run out, so it has to recognise what it has
    done before.
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
        self._waiting: deque[_Waiting[Item, Reply]] = deque()
        self._in_flight = 0
        self._flushers: set[asyncio.Task[None]] = set()  # Kept, as the loop itself would not.

    def send(self, item: Item) -> asyncio.Future[Reply]:
        """Queue an item; the future gets its reply, or what `call` raised.

        It gets StoreUnavailable once its patience has run out, and at once if too many wait already.
        """
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        if len(self._waiting) >= WAITING_MAX:
            reply.set_exception(StoreUnavailable(f"{WAITING_MAX} calls wait for Redis already"))
            return reply
        self._waiting.append(_Waiting(item, reply, loop.time() + self._patience_seconds))
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
            while batch := self._take():
                await self._send_one(batch)
        finally:
            self._in_flight -= 1

    def _take(self) -> list[_Waiting[Item, Reply]]:
        """The next batch; whoever has waited for too long gets an error instead."""
        now = asyncio.get_running_loop().time()
        batch: list[_Waiting[Item, Reply]] = []
        size = 0
        while self._waiting and len(batch) < BATCH_ITEMS_MAX:
            first = self._waiting[0]
            if first.until < now:
                self._waiting.popleft()
                _fail(first, StoreUnavailable("Redis does not answer in time"))
                continue
            size += self._size_bytes(first.item)
            if batch and size > BATCH_BYTES_MAX:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _send_one(self, batch: list[_Waiting[Item, Reply]]) -> None:
        try:
            replies = await self._call_patiently([one.item for one in batch], batch[0].until)
        except StoreUnavailable as error:
            # The first one's patience is over, which says nothing of those that came later.
            for one in reversed(batch[1:]):
                if one.until > batch[0].until:
                    self._waiting.appendleft(one)
                else:
                    _fail(one, error)
            _fail(batch[0], error)
            return
        except Exception as error:  # noqa: BLE001 - whoever waits for the reply raises it.
            for one in batch:
                _fail(one, error)
            return
        for one, answer in zip(batch, replies, strict=True):
            if not one.reply.done():
                one.reply.set_result(answer)

    async def _call_patiently(self, items: list[Item], until: float) -> list[Reply]:
        loop = asyncio.get_running_loop()
        pause_seconds = _RESEND_FIRST_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await self._call(items)
            except TimeoutError as error:
                raise StoreUnavailable("Redis does not answer in time") from error
            except StoreUnavailable:
                if loop.time() + pause_seconds > until:
                    raise
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _RESEND_CEILING_SECONDS)


def _fail(waiting: _Waiting[Item, Reply], error: Exception) -> None:
    if not waiting.reply.done():
        waiting.reply.set_exception(error)
