"""Whether the store is still the one that it was: with its log to the last entry, and its functions.

A Redis that comes back may have lost the end of its log (a power cut, a fail-over), or everything (no
persistence, an empty disk), or may be another one. Nothing in it says so, as sequence numbers and ids
go on from where it thinks that it is. So every process remembers the last entry that it has seen, looks
once a second whether that is still there, and says what is gone. What is gone stays gone: a client that
was told 202 has to be told by people. DURABILITY says how much it can be.
"""

import asyncio
import logging
from typing import Final

from msgspec import Struct

from core import functions
from core.errors import StoreError, StoreNotReady
from core.head import milliseconds_of
from core.keys import META
from core.redis import answering
from core.store import EventStore
from core.trouble import Trouble

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 1.0
NO_ENTRY: Final = "0-0"


class Tail(Struct, frozen=True):
    """Where a log ends."""

    sequence: int = 0  # 0: it is empty.
    entry: str = NO_ENTRY


class Look(Struct, frozen=True):
    """A log as it is now, and what has become of the entry that was its last."""

    tail: Tail
    first_entry: str
    sequence_there: int  # Of the entry that was the last; 0: it is gone.


def loss(shard: int, before: Tail, now: Look) -> str | None:
    """What a log has lost since it ended at `before`, in plain words; None if nothing."""
    if before.sequence == now.sequence_there:
        return None
    was_trimmed = now.tail.sequence >= before.sequence and _position(now.first_entry) > _position(
        before.entry
    )  # From the front, by the retention.
    if was_trimmed and now.sequence_there == 0:
        return None
    if now.tail.sequence == 0:
        return f"the log of shard {shard} is empty; it had {before.sequence} events"
    return (
        f"the log of shard {shard} has lost its end: event {before.sequence} ({before.entry}) is gone, "
        f"and perhaps others before it; it goes on with {now.tail.sequence} ({now.tail.entry})"
    )


def _position(entry: str) -> tuple[int, int]:
    return milliseconds_of(entry), int(entry.partition("-")[2])


class TailWatch:
    """Looks at one store. What it finds is for `/readyz` and the log: nothing stops for it."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._incarnation: str | None = None  # None: not looked yet.
        self._tails = [Tail()] * len(store.shards)
        self._away = Trouble(log, "the store cannot be looked at")
        self.trouble: str | None = None  # Why the store cannot be used just now, though it answers.
        self.loss: str | None = None  # What was last found to be gone.

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
                self._away.is_over()
            except StoreError as error:
                self._away.is_there(error)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Look once. Raises StoreUnavailable."""
        async with answering():
            incarnation, shards = await self._store.client.execute_command(
                "HMGET", META, "incarnation", "shards"
            )
        self._compare(incarnation.decode() if incarnation else None)
        try:
            for at, keys in enumerate(self._store.shards):
                before = self._tails[at]
                row = await functions.call(
                    self._store.client, "tail", [keys.log], {"entry": before.entry}
                )
                now = Look(Tail(row[0], row[1].decode()), row[2].decode(), row[3])
                self._found(loss(at, before, now))
                self._tails[at] = now.tail
        except StoreNotReady as error:
            self._tails = [Tail()] * len(self._tails)
            self.trouble = str(error)
            return
        self.trouble = self._complaint(incarnation, shards)

    def _complaint(self, incarnation: bytes | None, shards: bytes | None) -> str | None:
        here = len(self._store.shards)
        if incarnation is None or shards is None:
            return "the store was emptied: run `respool migrate`"
        if int(shards) != here:
            return f"the store has {int(shards)} shards and had {here}: start this process again"
        return None

    def _compare(self, incarnation: str | None) -> None:
        before, self._incarnation = self._incarnation, incarnation or ""
        if not before or incarnation == before:
            return
        seen = sum(tail.sequence for tail in self._tails)
        if incarnation is None:
            self._found(f"the store was emptied: it had {seen} events")
        else:
            self._found(f"the store is another one than before, which had {seen} events")
        self._tails = [Tail()] * len(self._tails)

    def _found(self, what: str | None) -> None:
        if what is not None:
            self.loss = what
            log.error("%s. What it had told its clients may be gone; see DURABILITY", what)
