"""Doorbells: «look again» over Redis's pub/sub, on one connection for the whole process.

A bell carries no truth. Whoever hears one reads the head, the log or the output; whoever fears that
one was missed (after a reconnect every bell rings) reads as well. So the order is always: hear, read,
wait, read, wait.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from core.keys import BELL, WORK_BELL

log = logging.getLogger(__name__)

_RECONNECT_SECONDS: Final = 0.2


class Bell:
    """One listener's bell: rung any number of times, heard once."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait until it rings, or for that long; say which. What rang meanwhile counts."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


class Bells:
    """All bells of a process. `run` keeps the connection; `hear` is for everybody else."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._listeners: dict[str, set[Bell]] = {WORK_BELL: set()}
        self._confirmed: dict[str, asyncio.Event] = {WORK_BELL: asyncio.Event()}
        self._pubsub: PubSub | None = None

    async def run(self) -> None:
        """Listen, for ever. A lost connection is made again, and then every bell rings."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning("no doorbells: %s", error)
            self._pubsub = None
            for confirmed in self._confirmed.values():
                confirmed.clear()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(*self._listeners)
            self._pubsub = pubsub
            for bells in self._listeners.values():
                for bell in bells:
                    bell.ring()
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is not None:
                    self._pass_on(message["type"], message["channel"].decode())

    def _pass_on(self, kind: str, channel: str) -> None:
        if kind == "subscribe" and channel in self._confirmed:
            self._confirmed[channel].set()
        for bell in self._listeners.get(channel, ()):
            bell.ring()

    @asynccontextmanager
    async def hear(self, name: str, confirm_seconds: float = 1.0) -> AsyncIterator[Bell]:
        """A bell that rings for a subject (a job's id), or for WORK_BELL.

        On entry the subscription is in force, or, while Redis does not answer, will be: then the
        bell rings once it is.
        """
        channel = name if name == WORK_BELL else BELL + name
        bell = Bell()
        is_first = channel not in self._listeners
        self._listeners.setdefault(channel, set()).add(bell)
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        try:
            if is_first and self._pubsub is not None:
                await self._quietly(self._pubsub.subscribe(channel))
            try:
                async with asyncio.timeout(confirm_seconds):
                    await confirmed.wait()
            except TimeoutError:
                pass
            yield bell
        finally:
            self._listeners[channel].discard(bell)
            if not self._listeners[channel] and channel != WORK_BELL:
                del self._listeners[channel], self._confirmed[channel]
                if self._pubsub is not None:
                    await self._quietly(self._pubsub.unsubscribe(channel))

    async def _quietly(self, command: object) -> None:
        try:
            await command  # type: ignore[misc]
        except (RedisError, OSError):
            log.debug("the doorbell connection is gone; `run` makes it again")
