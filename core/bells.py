"""Doorbells: «look again» over Redis's pub/sub, on one connection for the whole process.

A bell carries no truth. Whoever hears one reads the head, the log or the output; whoever fears that
one was missed (after a reconnect every bell rings) reads as well. So the order is always: hear, read,
wait, read, wait.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from core.errors import StoreError
from core.keys import BELL, OUTPUT_RING, WORK_BELL
from core.redis import REPLY_TIMEOUT_SECONDS, answering
from core.trouble import Trouble

log = logging.getLogger(__name__)

_RECONNECT_SECONDS: Final = 0.2
_SILENCE_SECONDS: Final = 10.0


class Bell:
    """One listener's bell: rung any number of times, heard once."""

    def __init__(self, *, is_for_output: bool = True) -> None:
        self._rung = asyncio.Event()
        self.is_for_output = is_for_output
        self.is_closing = False  # The process stops: whoever listens should come to an end.

    def ring(self) -> None:
        self._rung.set()

    def hush(self) -> None:
        """Forget what rang so far: whoever listens is about to look, and will see what it was for."""
        self._rung.clear()

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait until it rings, or for that long; say which. What rang meanwhile counts."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


class _Channel:
    """A channel that somebody listens to."""

    def __init__(self) -> None:
        self.bells: set[Bell] = set()
        self.confirmed = asyncio.Event()  # Redis has said that the subscription is in force.


class Bells:
    """All bells of a process. Only `run` touches the connection; `hear` is for everybody else."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._channels: dict[str, _Channel] = {WORK_BELL: _Channel()}
        self._changed = asyncio.Event()  # What is subscribed to is no longer what is listened to.
        self._in_force: set[str] = set()  # Subscriptions that Redis has confirmed.
        self._here: set[Bell] = set()
        self.is_closing = False

    def close(self) -> None:
        """Ask all listeners to come to an end, and whoever is yet to listen."""
        self.is_closing = True
        heard = [bell for channel in self._channels.values() for bell in channel.bells]
        for bell in (*heard, *self._here):
            bell.is_closing = True
            bell.ring()

    @contextmanager
    def here(self) -> Iterator[Bell]:
        """A bell that this process rings itself; of Redis it hears nothing."""
        bell = Bell()
        if self.is_closing:
            bell.is_closing = True
            bell.ring()
        self._here.add(bell)
        try:
            yield bell
        finally:
            self._here.discard(bell)

    async def run(self) -> None:
        """Listen, for ever. A lost connection is made again, and then every bell rings."""
        trouble = Trouble(log, "no doorbells")
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    await self._listen(pubsub, trouble.is_over)
            except (RedisError, OSError, StoreError) as error:
                trouble.is_there(error)
            self._in_force.clear()
            for channel in self._channels.values():
                channel.confirmed.clear()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, pubsub: PubSub, on_subscribed: Callable[[], None]) -> None:
        subscribed = set(self._channels)
        async with answering():
            await pubsub.subscribe(*subscribed)
        receiving = asyncio.create_task(self._receive(pubsub, on_subscribed))
        changed = asyncio.create_task(self._changed.wait())
        try:
            while True:
                await asyncio.wait((receiving, changed), return_when=asyncio.FIRST_COMPLETED)
                if receiving.done():
                    return receiving.result()
                self._changed.clear()
                changed = asyncio.create_task(self._changed.wait())
                wanted = set(self._channels)
                if new := wanted - subscribed:
                    await pubsub.subscribe(*new)
                if old := subscribed - wanted:
                    self._in_force -= old
                    await pubsub.unsubscribe(*old)
                subscribed = wanted
        finally:
            changed.cancel()
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _receive(self, pubsub: PubSub, on_subscribed: Callable[[], None]) -> None:
        """Ring for what comes, until the connection is not to be trusted any more: that is a RedisError."""
        message = await pubsub.get_message(timeout=REPLY_TIMEOUT_SECONDS)
        if message is None:
            raise RedisError("the subscription is not confirmed")
        on_subscribed()
        is_asked = False
        while True:
            if message is not None:
                is_asked = False
                self._hear(message)
            elif is_asked:  # A connection that a router has forgotten brings nothing, and no error.
                raise RedisError(f"the connection was silent for {2 * _SILENCE_SECONDS:g} s")
            else:
                is_asked = True
                await pubsub.ping()
            message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
            connection: Any = pubsub.connection  # redis-py's annotation knows only the None.
            if connection is not None and connection.should_reconnect():
                raise RedisError("the server has become a replica")

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "pong":
            return
        key = message["channel"].decode()
        channel = self._channels.get(key)
        if channel is None:
            return
        if message["type"] == "subscribe":
            self._in_force.add(key)
            channel.confirmed.set()
        is_output = message["data"] == OUTPUT_RING
        for bell in channel.bells:
            if bell.is_for_output or not is_output:
                bell.ring()  # A subscription rings too: something may have happened before it.

    @asynccontextmanager
    async def hear(
        self, name: str, confirm_seconds: float = 1.0, *, is_for_output: bool = True
    ) -> AsyncIterator[Bell]:
        """A bell that rings for a subject (a job's id), or for WORK_BELL.

        Who waits for a job's transitions alone is not woken for each chunk of its output.
        On entry the subscription is in force, or, while Redis does not answer, will be: then the
        bell rings once it is.
        """
        key = name if name == WORK_BELL else BELL + name
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel()
            if key in self._in_force:
                channel.confirmed.set()
            self._changed.set()
        bell = Bell(is_for_output=is_for_output)
        if self.is_closing:
            bell.is_closing = True
            bell.ring()
        channel.bells.add(bell)
        try:
            try:
                async with asyncio.timeout(confirm_seconds):
                    await channel.confirmed.wait()
            except TimeoutError:
                log.debug("no subscription to %s yet", key)
            yield bell
        finally:
            channel.bells.discard(bell)
            if not channel.bells and key != WORK_BELL:
                del self._channels[key]
                self._changed.set()
