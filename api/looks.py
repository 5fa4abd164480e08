"""Looks into the past, within bounds: each reads the log from its beginning, whatever is asked.

A page is in memory at a time, and besides it what was open at that moment. One look goes on at a time in a
process, and rests after each page for as long as that took, so that others have half of the time at least.
Whoever has to wait for its turn waits within its own limit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from api.errors import ApiError
from projections.past.looking import Rest

SECONDS_MAX: Final = 30.0

Answer = TypeVar("Answer")


class Looks:
    """Lets one after the other look back."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def take(self, look: Callable[[Rest], Awaitable[Answer]], command: str) -> Answer:
        """What a look finds; `command` is the one that has no limit.

        Raises ApiError 503 for one that takes too long, and whatever `look` does.
        """
        try:
            async with asyncio.timeout(SECONDS_MAX) as limit, self._turn:
                return await look(_resting())
        except TimeoutError:
            if not limit.expired():
                raise
            message = (
                f"this reads the log from its beginning, which takes longer than {SECONDS_MAX:g} s here; "
                f"`{command}` has no limit, and does it in a process of its own"
            )
            headers = {"x-should-retry": "false"}
            raise ApiError(503, "replay_too_long", message, headers=headers) from None


def _resting() -> Rest:
    loop = asyncio.get_running_loop()
    since = loop.time()

    async def rest() -> None:
        nonlocal since
        await asyncio.sleep(loop.time() - since)
        since = loop.time()

    return rest
