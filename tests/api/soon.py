"""Waiting for what gives no signal."""

import asyncio
from collections.abc import Awaitable, Callable

from core.keys import BELL
from tests.api.conftest import Api

PATIENCE_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 0.01


async def soon(is_so: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return once it is so; it is an error if that takes longer than anybody's patience."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = is_so()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


def listeners(api: Api, job_id: str) -> int:
    """How many streams and polls of a job the API has open."""
    channel = api.bells._channels.get(BELL + job_id)
    return len(channel.bells) if channel else 0
