"""Listens to Redis itself, in the order in which things happened there: an output chunk while nobody
holds the job is a fence that did not hold.

An append rings a job's bell with the new version, a write of output with the word `output`, both in
the same atomic step as what they tell of.
"""

import asyncio
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from core.keys import BELL
from core.redis import connect

_RECONNECT_SECONDS: Final = 0.1
_LISTEN_SECONDS: Final = 1.0


class Spy:
    """What was heard: for each output write the last version before it, where that is known."""

    def __init__(self, url: str) -> None:
        self.writes: set[tuple[str, int]] = set()  # Job, and its version when output was written.
        self._client = connect(url)
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._client.aclose()

    async def _listen(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                await self._hear_all()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _hear_all(self) -> None:
        versions: dict[str, int] = {}  # Of this connection: what came in between is unknown.
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.psubscribe(f"{BELL}*")
            while True:
                message = await pubsub.get_message(timeout=_LISTEN_SECONDS)
                if message is None:
                    continue
                subject = message["channel"].decode().removeprefix(BELL)
                what = message["data"].decode()
                if what.isdigit():
                    versions[subject] = int(what)
                elif what == "output" and subject in versions:
                    self.writes.add((subject, versions[subject]))
