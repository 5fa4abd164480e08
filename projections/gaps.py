"""Entries that the log lacks for good, and that an operator has agreed to go on without.

A missing entry stops every reader of the log, as nobody can know what it said. Accepting that is a
decision, so it is kept in the store: each reader passes over just those numbers, and parks the subjects
whose histories have a hole there.
"""

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from core.head import position_of
from core.keys import ShardKeys
from core.log import LogEntry
from core.redis import answering
from core.tail import NO_ENTRY
from projections.rows import Row


class Missing(Struct, frozen=True):
    """A run of entries that are not there."""

    first: int
    last: int
    after: str  # The entry before them; `0-0` if they were the first.
    until: str  # The entry after them, or the last id that the log ever gave.

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"

    def had(self, log_id: str) -> bool:
        """Say whether an entry with this id may have been one of them."""
        return position_of(self.after) < position_of(log_id) <= position_of(self.until)


class Gaps(Struct, frozen=True):
    """What is missing in a shard's log, and accepted."""

    known: tuple[Missing, ...] = ()

    def have(self, missing: Missing) -> bool:
        """Say whether a gap is one of these."""
        return any(one.first <= missing.first and missing.last <= one.last for one in self.known)

    def explain(self, entry: LogEntry, row: Row | None) -> bool:
        """Say whether an entry may not continue what is known of its subject because of one of these."""
        known = 0 if row is None else row.version
        if entry.version == known + 1:
            return False
        before = position_of(NO_ENTRY if row is None else row.log_id)
        here = position_of(entry.id)
        return any(
            before <= position_of(one.after) and position_of(one.until) <= here
            for one in self.known
        )


async def accepted(client: Redis, keys: ShardKeys) -> Gaps:
    """The gaps of a shard that were accepted. Raises StoreUnavailable."""
    async with answering():
        stored: list[bytes] = await client.execute_command("HVALS", keys.gaps)
    known = (msgspec.json.decode(one, type=Missing) for one in stored)
    return Gaps(tuple(sorted(known, key=lambda one: one.first)))


async def accept(client: Redis, keys: ShardKeys, missing: Missing) -> None:
    """Agree to go on without some entries. Raises StoreUnavailable."""
    body = msgspec.json.encode(missing)
    async with answering():
        await client.execute_command("HSET", keys.gaps, f"{missing.first}-{missing.last}", body)
