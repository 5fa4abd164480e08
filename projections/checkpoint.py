"""A view in Redis: its checkpoint, its rows, and the commit that moves both on."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, structs
from redis.asyncio import Redis

from core import functions
from core.errors import RespoolError, StoreError
from core.head import position_of
from core.keys import ShardKeys
from core.redis import answering
from core.tail import NO_ENTRY
from projections.fold import Changes, Horizon, Parked
from projections.keys import ViewKeys
from projections.rows import Row, decode

_CHECKPOINT: Final = ("sequence", "entry", "rows_ms", "counts_ms", "commits")


class Moved(RespoolError):
    """Nothing was written: somebody else has moved the view on, or dropped it."""


class Held(RespoolError):
    """Nothing was written: somebody reads the view and needs it to stand still a moment."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the view is held for {seconds:.1f} s")
        self.seconds = seconds


class LostTail(StoreError):
    """The log is not the one that the view was folded from: it has lost entries, or has others."""


class Checkpoint(Struct, frozen=True):
    """How far a view has come in its log, and how far back it reaches."""

    sequence: int = 0
    entry: str = NO_ENTRY
    horizon: Horizon = Horizon()
    commits: int = 0  # What a commit names to say what it was folded onto.


class View:
    """One shard's part of a generation of views."""

    def __init__(self, client: Redis, log: ShardKeys, keys: ViewKeys) -> None:
        self._client = client
        self._log = log
        self.keys = keys

    async def create(self, horizon: Horizon) -> None:
        """Begin the view, empty, if it is not there yet. Raises StoreUnavailable."""
        fields: dict[str, str | int] = {"sequence": 0, "entry": NO_ENTRY, "commits": 0}
        fields |= {"rows_ms": horizon.rows_ms, "counts_ms": horizon.counts_ms}
        async with answering(), self._client.pipeline(transaction=True) as pipe:
            for name, value in fields.items():
                pipe.hsetnx(self.keys.checkpoint, name, str(value))
            await pipe.execute()

    async def checkpoint(self) -> Checkpoint:
        """Where the view is. Raises Moved if there is no such view (any more), StoreUnavailable."""
        async with answering():
            stored: list[bytes | None] = await self._client.execute_command(
                "HMGET", self.keys.checkpoint, *_CHECKPOINT
            )
        sequence, entry, rows_ms, counts_ms, commits = stored
        if sequence is None or entry is None:
            raise Moved("the view is not there")
        horizon = Horizon(int(rows_ms or 0), int(counts_ms or 0))
        return Checkpoint(int(sequence), entry.decode(), horizon, int(commits or 0))

    async def verified_checkpoint(self) -> Checkpoint:
        """Where the view is, and whether the log is still the one that it came from.

        Raises LostTail if it is not, Moved, StoreUnavailable.
        """
        at = await self.checkpoint()
        if at.entry == NO_ENTRY:
            return at
        async with answering():
            found = await self._client.execute_command(
                "XRANGE", self._log.log, at.entry, at.entry, "COUNT", 1
            )
            first = await self._client.execute_command(
                "XRANGE", self._log.log, "-", "+", "COUNT", 1
            )
        if found and int(found[0][1][b"q"]) == at.sequence:
            return at
        is_trimmed = first and position_of(first[0][0].decode()) > position_of(at.entry)
        if not found and is_trimmed and int(first[0][1][b"q"]) > at.sequence:
            return at  # What is missing in between is in the archive, or it cannot be read on.
        raise LostTail(
            f"the views of shard {self._log.shard} were folded up to entry {at.entry} "
            f"(number {at.sequence}), which the log does not have: it lost its end, or was trimmed "
            "ahead of the views; `respool replay repair` folds them anew"
        )

    async def rows(self, subjects: Sequence[str], at: Checkpoint | None = None) -> dict[str, Row]:
        """The rows of those subjects that have one; those that they had at a checkpoint, if one is given.

        Raises Moved if the view is not there any more, StoreUnavailable.
        """
        if not subjects:
            return {}
        names = [self.keys.checkpoint, self.keys.rows]
        commits, *stored = await functions.call(
            self._client, "project_rows", names, {"subjects": list(subjects)}
        )
        if commits < 0 or (at is not None and commits != at.commits):
            raise Moved("the view has moved on")
        return {
            subject: decode(row)
            for subject, row in zip(subjects, stored, strict=True)
            if row is not None
        }

    async def parked(self) -> dict[str, Parked]:
        """Subjects that are passed over, and why. Raises StoreUnavailable."""
        async with answering():
            stored: Any = await self._client.hgetall(self.keys.parked)
        return {
            subject.decode(): msgspec.json.decode(parked, type=Parked)
            for subject, parked in stored.items()
        }

    async def names(self) -> set[str]:
        """The names of all sets and counters of the view. Raises StoreUnavailable."""
        async with answering():
            names: Iterable[bytes] = await self._client.execute_command("SMEMBERS", self.keys.names)
        return {name.decode() for name in names}

    async def say_trouble(self, why: str) -> None:
        """Leave word for whoever reads the view that it does not move on, and why; a commit takes it away.

        Raises StoreUnavailable.
        """
        await functions.call(self._client, "project_stopped", [self.keys.checkpoint], {"why": why})

    async def commit(
        self,
        onto: Checkpoint,
        to: Checkpoint,
        changes: Changes,
        over: Sequence[str] = (),
    ) -> Checkpoint:
        """Apply changes that were folded onto one checkpoint, and move on to another, in one step.

        The checkpoint as it is then. `over` names counters that are no longer kept. Raises Moved, Held,
        LostTail, StoreUnavailable.
        """
        ask, bodies = _arguments(self.keys, onto, to, changes, over)
        names = [
            self._log.log,
            self.keys.checkpoint,
            self.keys.rows,
            self.keys.names,
            self.keys.parked,
        ]
        match await functions.call(self._client, "project", names, ask, bodies):
            case [b"ok", commits]:
                return structs.replace(to, commits=commits)
            case [b"held", held_ms]:
                raise Held(held_ms / 1_000)
            case [b"lost"]:
                raise LostTail(
                    f"the log of shard {self._log.shard} has lost entry {to.entry} "
                    f"(number {to.sequence}) while it was being folded"
                )
            case _:
                raise Moved("the view has moved on")


def _arguments(
    keys: ViewKeys, onto: Checkpoint, to: Checkpoint, changes: Changes, over: Sequence[str]
) -> tuple[dict[str, Any], list[bytes]]:
    places = []
    for name, members in changes.places.items():
        entering: list[str | int] = []
        for member, score in members.items():
            if score is not None:
                entering += (score, member)
        leaving = [member for member, score in members.items() if score is None]
        places.append((name, entering, leaving))
    added = []
    for name, fields in changes.added.items():
        flat = [part for pair in fields.items() if pair[1] for part in pair]
        if flat:
            added.append((name, flat))
    park: list[str] = []
    for subject, parked in changes.parked.items():
        park += (subject, msgspec.json.encode(parked).decode())  # Lua's MessagePack has no bytes.
    ask = {
        "expected": onto.commits,
        "at": (to.sequence, to.entry),
        "set": ("rows_ms", to.horizon.rows_ms, "counts_ms", to.horizon.counts_ms),
        "prefix": keys.prefix,
        "put": list(changes.rows),
        "drop": changes.dropped,
        "places": places,
        "added": added,
        "park": park,
        "over": list(over),
    }
    return ask, list(changes.rows.values())
