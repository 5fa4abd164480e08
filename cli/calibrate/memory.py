"""How full the devices are: at rest, and at most while there is load."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from core.roster import GpuMemory

Look = Callable[[], Awaitable[tuple[GpuMemory, ...]]]  # How full each device is now.

LOOK_SECONDS: Final = 0.25
_STILL_SECONDS: Final = 1.0
_STILL_BYTES: Final = 16 * 2**20
_AT_REST_SECONDS_MAX: Final = 10.0  # Ollama waits up to 5 s for memory to come back.
_RISING_SECONDS_MAX: Final = 30.0


async def at_rest(look: Look) -> tuple[GpuMemory, ...]:
    """What is in use once it has been about the same for a second, or after ten."""
    looks: deque[tuple[GpuMemory, ...]] = deque(maxlen=round(_STILL_SECONDS / LOOK_SECONDS) + 1)
    for _ in range(round(_AT_REST_SECONDS_MAX / LOOK_SECONDS)):
        looks.append(await look())
        if not looks[-1] or (len(looks) == looks.maxlen and _is_still(looks)):
            break
        await asyncio.sleep(LOOK_SECONDS)
    return looks[-1]


def _is_still(looks: deque[tuple[GpuMemory, ...]]) -> bool:
    return all(
        max(one.used_bytes for one in device) - min(one.used_bytes for one in device)
        <= _STILL_BYTES
        for device in zip(*looks, strict=False)
    )


class Peak:
    """The most that each device had in use, by its index, from when it was begun to look."""

    def __init__(self, look: Look) -> None:
        self.used_bytes: dict[int, int] = {}
        self._look = look
        self._risen_at = asyncio.get_running_loop().time()

    async def keep_looking(self) -> None:
        """Look again and again, for ever."""
        while True:
            memory = await self._look()
            for one in memory:
                before = self.used_bytes.get(one.index, 0)
                self.used_bytes[one.index] = max(before, one.used_bytes)
                if one.used_bytes > before + _STILL_BYTES:
                    self._risen_at = asyncio.get_running_loop().time()
            await asyncio.sleep(LOOK_SECONDS)

    async def until_steady(self) -> None:
        """Wait until it has not risen for a second, at most for thirty."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _RISING_SECONDS_MAX
        while self.used_bytes and loop.time() < min(until, self._risen_at + _STILL_SECONDS):
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def peak_of(look: Look) -> AsyncIterator[Peak]:
    """The peak of what is in use while the block runs."""
    peak = Peak(look)
    looking = asyncio.create_task(peak.keep_looking())
    try:
        yield peak
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
