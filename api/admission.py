"""What a caller is told whose submission is one too many: which limit that was, and when to come again."""

import asyncio
from collections.abc import Mapping
from typing import Final

from api.catalog import Catalog
from api.errors import ApiError
from api.headers import retry_headers
from core.errors import KeyBusy, OverLimit, QueueFull, RateLimited, StoreError
from core.rates import REQUESTS
from projections.reading.position import Reader
from projections.reading.queues import paces

PACE_SECONDS: Final = 1.0  # How old the pace of queues may be.
_LEAST_MS: Final = 1_000
_MOST_MS: Final = 60_000
_UNKNOWN_MS: Final = 5_000  # Jobs end, and nobody knows how fast.


class Drain:
    """How fast queues drain, looked up at most once a second however many are refused."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._paces: Mapping[str, float] | None = None
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def per_second(self, queue: str) -> float | None:
        """How many of a queue's jobs have ended each second, in the last minutes; None if no view says."""
        if asyncio.get_running_loop().time() - self._looked_at > PACE_SECONDS:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            await asyncio.shield(self._looking)  # Shared: whoever comes meanwhile joins in.
        return None if self._paces is None else self._paces.get(queue, 0.0)

    async def _look(self) -> None:
        try:
            position, known = await paces(self._reader)
            self._paces = None if position.stopped else known
        except StoreError:
            self._paces = None
        finally:
            self._looked_at = asyncio.get_running_loop().time()
            self._looking = None


async def refusal(error: OverLimit, drain: Drain, catalog: Catalog, shards: int) -> ApiError:
    """The 429 for a submission that is one too many."""
    match error:
        case RateLimited(which=which, level=level):
            message = f"{error}; there is one more in {level.wait_ms / 1_000:g} s"
            return _rate_limited(message, which, level.wait_ms)
        case KeyBusy():
            message = f"{error}; there is room once one of them has ended"
            return _rate_limited(message, REQUESTS, _UNKNOWN_MS)
        case QueueFull(is_scheduled=True):
            return _queue_full(str(error), _MOST_MS)
        case QueueFull(queue=queue):
            if not await _is_anybody_alive(catalog):
                return _queue_full(f"{error}; no worker is alive", _MOST_MS)
            pace = await drain.per_second(queue)
            return _queue_full(str(error), _until_room_ms(error, pace, shards))
        case _:
            return _queue_full(str(error), _UNKNOWN_MS)


def _until_room_ms(full: QueueFull, pace: float | None, shards: int) -> float:
    """How long it takes, at that pace, until a shard has room for one more."""
    if pace is None:
        return _UNKNOWN_MS
    too_many = full.depth - full.limit + 1
    return max(_LEAST_MS, too_many * shards * 1_000 / pace) if pace else _MOST_MS


async def _is_anybody_alive(catalog: Catalog) -> bool:
    try:
        return bool((await catalog.crew()).living)
    except StoreError:
        return True  # As far as anybody knows.


def _queue_full(message: str, wait_ms: float) -> ApiError:
    return ApiError(429, "queue_full", message, headers=retry_headers(wait_ms))


def _rate_limited(message: str, kind: str, wait_ms: float) -> ApiError:
    headers = retry_headers(wait_ms)
    return ApiError(429, "rate_limit_exceeded", message, kind=kind, headers=headers)
