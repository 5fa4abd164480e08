"""One listener's way through the log: from the past, or from now on, and nothing missed in silence.

As in `api.streams` the order is hear, read, send, wait. The numbers of a log's entries are dense, so each
listener sees for itself when one is missing.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import chain
from typing import Final

from msgspec import Struct

from api.errors import STORE_AWAY_SECONDS
from api.happenings import Happening
from api.streams import COMMENT, COMMENT_EVERY_SECONDS, message
from api.tail import Tail
from core.access import Caller
from core.bells import Bell
from core.errors import StoreError
from core.tail import NO_ENTRY, Place, look

_GONE: Final = "trimmed or lost: the log does not have it any more"
_UNREADABLE: Final = "it cannot be read"


class Wanted(Struct, frozen=True):
    """Which events a listener asked for, of those that it may see."""

    types: frozenset[str]  # Empty: all.
    queue: str | None
    caller: Caller

    def takes(self, one: Happening) -> bool:
        """Say whether it is sent. What no tenant is known of is for those who see all."""
        if self.types and one.type not in self.types:
            return False
        if self.queue is not None and one.queue != self.queue:
            return False
        if not one.is_of_a_job:
            return True
        return self.caller.sees is None if one.tenant is None else self.caller.may_see(one.tenant)


class Start(Struct, frozen=True):
    """Where a listener wants to go on."""

    entries: tuple[str, ...]  # By shard.
    is_ours: bool  # It was an id of ours: if the log does not have it, something is gone.


class Missing(Struct, frozen=True):
    """Numbers that a log does not have, the first and the last; None: nobody knows which."""

    first: int | None = None
    last: int | None = None


class Cursor:
    """How far a listener has come in each shard."""

    def __init__(self, places: Sequence[Place], *, is_end: bool) -> None:
        self.positions = [place.position for place in places]
        self._entries = [place.entry for place in places]
        # Of the last one. An empty log does not say what it had, so at its end any number may come next.
        self._sequences = [
            None if is_end and place == Place() else place.sequence for place in places
        ]

    def __str__(self) -> str:
        return ",".join(self._entries)

    def entry(self, shard: int) -> str:
        return self._entries[shard]

    def has_seen(self, one: Happening) -> bool:
        return one.position <= self.positions[one.shard]

    def sequence(self, shard: int) -> int | None:
        return self._sequences[shard]

    def advance(self, one: Happening) -> Missing | None:
        """Go on to a happening; what is missing before it, if something is."""
        before = self._sequences[one.shard]
        number = before + 1 if one.sequence is None and before is not None else one.sequence
        self.positions[one.shard] = one.position
        self._entries[one.shard] = one.entry
        self._sequences[one.shard] = number
        if before is None or number is None or number == before + 1:
            return None
        return Missing(before + 1, number - 1) if number > before else Missing()


async def listen(tail: Tail, wanted: Wanted, start: Start | None) -> AsyncGenerator[bytes, None]:
    """The server-sent events for one listener, from where it wants to go on; None: from now on."""
    async with tail.listening() as bell:
        while tail.ring is None:
            if not await bell.wait(COMMENT_EVERY_SECONDS):
                yield COMMENT
            if bell.is_closing:
                return
        number = tail.ring.end if start is None else None
        places = tail.ends if start is None else await _places(tail, bell, start)
        if places is None:
            return
        cursor = Cursor(places, is_end=start is None)
        yield _position(cursor)
        if start is not None and start.is_ours:
            for shard, entry in enumerate(start.entries):
                if cursor.entry(shard) != entry:
                    yield _resync(shard, Missing(), _GONE)
        async for message in _follow(tail, bell, wanted, cursor, number):
            yield message


async def _places(tail: Tail, bell: Bell, start: Start) -> list[Place] | None:
    """What the log has of where a listener wants to go on; None if the process stops meanwhile."""
    while not bell.is_closing:
        try:
            return [await _place(tail, shard, entry) for shard, entry in enumerate(start.entries)]
        except StoreError:
            await bell.wait(STORE_AWAY_SECONDS)
    return None


async def _place(tail: Tail, shard: int, entry: str) -> Place:
    """The newest entry that is not after `entry`; none if that is before all that are left."""
    if entry == NO_ENTRY:
        return Place()
    left = (await look(tail.store.client, tail.store.shards[shard], entry)).left
    return left if left.sequence else Place()


async def _follow(
    tail: Tail, bell: Bell, wanted: Wanted, cursor: Cursor, number: int | None
) -> AsyncGenerator[bytes, None]:
    """What comes after the cursor: out of the log, and out of the ring as soon as that has it all.

    `number` is the ring's next one for this listener; None while it reads the log by itself.
    """
    loop = asyncio.get_running_loop()
    told, told_at = str(cursor), loop.time()
    while not bell.is_closing and (ring := tail.ring) is not None:
        if number is None or number < ring.first:
            number = ring.first if ring.has_all_after(cursor.positions) else None
        if number is not None:
            some = ring.some_from(number)
            number += len(some)
        else:
            try:
                some = await _page(tail, cursor)
            except StoreError:
                await bell.wait(STORE_AWAY_SECONDS)
                yield COMMENT
                continue
            if not some:  # The log has nothing more: what comes now comes through the ring.
                number = ring.first
        message, is_over = _messages(some, wanted, cursor)
        if message:
            told, told_at = str(cursor), loop.time()
            yield message
        if is_over:
            return
        if not some:
            await bell.wait(max(0.0, told_at + COMMENT_EVERY_SECONDS - loop.time()))
        if loop.time() - told_at >= COMMENT_EVERY_SECONDS:
            yield COMMENT if told == str(cursor) else _position(cursor)
            told, told_at = str(cursor), loop.time()


async def _page(tail: Tail, cursor: Cursor) -> list[Happening]:
    """The next of each shard, by their times. Raises StoreError."""
    shards = range(len(tail.store.shards))
    pages = await asyncio.gather(*(tail.page(shard, cursor.entry(shard)) for shard in shards))
    return sorted(chain.from_iterable(pages), key=lambda one: one.position)


def _messages(some: Sequence[Happening], wanted: Wanted, cursor: Cursor) -> tuple[bytes, bool]:
    """What is sent of some happenings, with what is missing between them; and whether it ends there."""
    messages: list[bytes] = []
    for one in some:
        if cursor.has_seen(one):
            continue
        if one.is_newer:
            return b"".join((*messages, one.message)), True
        missing = cursor.advance(one)
        if missing is not None:
            messages.append(_resync(one.shard, missing, _GONE))
        if one.is_unreadable:
            number = cursor.sequence(one.shard)
            messages.append(_resync(one.shard, Missing(number, number), _UNREADABLE))
        elif wanted.takes(one):
            messages.append(b"id: %b\r\n%b" % (str(cursor).encode(), one.message))
    return b"".join(messages), False


def _position(cursor: Cursor) -> bytes:
    return message({"position": str(cursor)}, "position", str(cursor))


def _resync(shard: int, missing: Missing, why: str) -> bytes:
    """Without an id, so that a client that goes on before the next event is told again."""
    return message(
        {"shard": shard, "first": missing.first, "last": missing.last, "why": why}, "resync"
    )
