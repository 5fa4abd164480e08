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
from redis.asyncio import Redis

from core import functions
from core.errors import StoreError, StoreNotReady
from core.head import position_of
from core.keys import META, ShardKeys
from core.redis import answering
from core.store import EventStore
from core.trouble import Trouble

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 1.0
NO_ENTRY: Final = "0-0"


class Place(Struct, frozen=True):
    """An entry of a log."""

    sequence: int = 0  # 0: there is none.
    entry: str = NO_ENTRY

    @property
    def position(self) -> tuple[int, int]:
        return position_of(self.entry)


class Look(Struct, frozen=True):
    """A log as it is now, and the newest entry of it that is not after the one that was known."""

    last: Place
    first: Place
    left: Place


class Loss(Struct, frozen=True):
    """The end of a log that is gone."""

    first: int  # The first sequence number that was lost.
    entries: int  # At least so many: what came after the last look, nobody knows.
    is_reused: bool  # Other entries have these numbers by now.
    is_all: bool  # Nothing is left.


def loss(known: Place, now: Look) -> Loss | None:
    """What a log has lost of what was there up to `known`, whose sequence is a lower bound."""
    if not known.sequence:
        return None
    if now.left.entry == known.entry and now.left.sequence >= known.sequence:
        return None
    if now.first.sequence > known.sequence and now.first.position > known.position:
        return None  # It was trimmed from the front, by the retention.
    kept = min(now.left.sequence, known.sequence - 1)
    return Loss(
        first=kept + 1,
        entries=known.sequence - kept,
        is_reused=now.last.sequence > kept,
        is_all=now.last.sequence == 0,
    )


async def look(client: Redis, keys: ShardKeys, entry: str) -> Look:
    """A log as it is now, and what is left of it up to an entry. Raises StoreError."""
    rows = await functions.call(client, "tail", [keys.log], {"entry": entry})
    return Look(*(Place(sequence, at.decode()) for sequence, at in rows))


def in_words(shard: int, lost: Loss) -> str:
    """A loss as an operator should read it."""
    if lost.is_all:
        return f"the log of shard {shard} is empty; it had at least {lost.entries} events"
    what = (
        f"the log of shard {shard} has lost its end, from event number {lost.first} on: "
        f"{lost.entries} or more"
    )
    return f"{what}; other events have their numbers by now" if lost.is_reused else what


class TailWatch:
    """Looks at one store. What it finds is for `/readyz` and the log: nothing stops for it."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._incarnation: str | None = None  # None: not looked yet.
        self._known = [Place()] * len(store.shards)  # The last entries that were seen.
        self._written = [NO_ENTRY] * len(store.shards)  # And those that we were told to be written.
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
                await self._look_at(at, keys)
        except StoreNotReady as error:
            self.trouble = str(error)
            return
        self.trouble = self._complaint(incarnation, shards)

    async def _look_at(self, at: int, keys: ShardKeys) -> None:
        known, written = self._known[at], self._store.newest_written(at)
        newest = Place(known.sequence + 1, written)
        if written != self._written[at] and newest.position > known.position:
            known = newest  # It came after the last look, so it has a greater number.
        now = await look(self._store.client, keys, known.entry)
        lost = loss(known, now)
        if lost is not None:
            self._found(in_words(at, lost))
        self._known[at], self._written[at] = now.last, written

    def _forget(self) -> None:
        shards = range(len(self._known))
        self._known = [Place()] * len(shards)
        self._written = [self._store.newest_written(at) for at in shards]

    def _complaint(self, incarnation: bytes | None, shards: bytes | None) -> str | None:
        here = len(self._store.shards)
        if incarnation is None or shards is None:
            return f"the store was emptied: run {_migration(here)}"
        if int(shards) != here:
            return f"the store has {int(shards)} shards and had {here}: start this process again"
        return None

    def _compare(self, incarnation: str | None) -> None:
        before, self._incarnation = self._incarnation, incarnation or ""
        if not before or incarnation == before:
            return
        seen = sum(place.sequence for place in self._known)
        if incarnation is None:
            again = _migration(len(self._known))
            self._found(f"the store was emptied: it had {seen} events; {again} makes it anew")
        else:
            self._found(f"the store is another one than before, which had {seen} events")
        self._forget()

    def _found(self, what: str | None) -> None:
        if what is not None:
            self.loss = what
            log.error("%s. What it had told its clients may be gone; see DURABILITY", what)


def _migration(shards: int) -> str:
    """What an operator has to run, so that a store that was emptied has the shape that it had."""
    return "`respool migrate`" if shards == 1 else f"`respool migrate --shards {shards}`"
